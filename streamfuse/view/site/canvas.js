// A canvas that is as sharp as the screen, and knows when it has to be drawn again.

export class Sheet {
  /** height in CSS pixels, or a function of the width; draw(pen, width, height) is called when something changed. */
  constructor(canvas, height, draw) {
    this.canvas = canvas;
    this.pen = canvas.getContext("2d");
    this.height = height;
    this.drawing = draw;
    this.width = 0;
    new ResizeObserver(() => { this.width = canvas.clientWidth; this.draw(); }).observe(canvas);
  }

  draw() {
    const width = this.width;
    if (!width) return;
    const height = typeof this.height === "function" ? this.height(width) : this.height;
    const scale = devicePixelRatio || 1;
    const [wide, high] = [Math.round(width * scale), Math.round(height * scale)];
    if (this.canvas.width !== wide || this.canvas.height !== high) {
      this.canvas.width = wide;
      this.canvas.height = high;
      this.canvas.style.height = `${height}px`;
    }
    this.pen.setTransform(scale, 0, 0, scale, 0, 0);
    this.pen.clearRect(0, 0, width, height);
    this.drawing(this.pen, width, height);
  }
}
