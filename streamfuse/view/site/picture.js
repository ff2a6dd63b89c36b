// The last picture of a source, with a box around the face that is read.

import { el } from "./dom.js";
import { hex } from "./colours.js";

export class Picture {
  constructor(name) {
    this.canvas = el("canvas", { role: "img", "aria-label": `Last picture of ${name}`, width: 16, height: 9 });
    this.pen = this.canvas.getContext("2d");
    this.bitmap = null;
    this.face = null;
    this.time = null;
    this.count = 0;
    this.busy = false;
  }

  /** Show a picture; of those that come while one is being unpacked, the newest. */
  async show(still) {
    this.waiting = still;
    if (this.busy) return;
    this.busy = true;
    while (this.waiting) {
      const next = this.waiting;
      this.waiting = null;
      try {
        const bitmap = await createImageBitmap(new Blob([next.jpeg], { type: "image/jpeg" }));
        this.bitmap?.close();
        this.bitmap = bitmap;
        this.time = next.time;
        this.count++;
        this.draw();
      } catch { /* not a picture: the one before stays */ }
    }
    this.busy = false;
  }

  /** box: [x, y, w, h] in 1/1000 of the picture, or null. */
  frame(box) {
    if (String(box) === String(this.face)) return;
    this.face = box;
    this.draw();
  }

  draw() {
    const { bitmap, canvas, pen, face } = this;
    if (!bitmap) return;
    if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
      canvas.width = bitmap.width;
      canvas.height = bitmap.height;
    }
    canvas.dataset.count = this.count;
    pen.drawImage(bitmap, 0, 0);
    if (!face) return;
    const [x, y, w, h] = [face[0] * canvas.width, face[1] * canvas.height, face[2] * canvas.width, face[3] * canvas.height].map((n) => n / 1000);
    const thick = Math.max(2, canvas.width / 220);
    for (const [colour, width] of [["#000a", thick + 2], [hex("face"), thick]]) {
      pen.strokeStyle = colour;
      pen.lineWidth = width;
      pen.beginPath();
      pen.roundRect(x, y, w, h, Math.min(w, h) / 10);
      pen.stroke();
    }
  }
}
