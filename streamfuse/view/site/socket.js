// The line to the server: opens it again by itself, and hands on what comes.

const FIRST_MS = 400, LONGEST_MS = 5000;
const PATIENCE_MS = 4000;
/** The server says something every second; a line that is silent for so long is dead. */

export class Line {
  /** on: {text(message), picture({place, width, height, time, jpeg}), state(word)} */
  constructor(path, on) {
    this.path = path;
    this.on = on;
    this.pause = FIRST_MS;
    this.wish = null;
    this.#open();
    // A telephone that was in a pocket has no line any more, and does not know it yet.
    document.addEventListener("visibilitychange", () => { if (!document.hidden && this.lost) this.#again(0); });
  }

  /** Tell the server what is wanted; again after each new beginning. */
  ask(wish) {
    const text = JSON.stringify(wish);
    if (text === this.wish) return;
    this.wish = text;
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(text);
  }

  #open() {
    this.lost = false;
    this.on.state("connecting");
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = this.socket = new WebSocket(`${scheme}://${location.host}${this.path}`);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => { if (this.wish) socket.send(this.wish); };
    socket.onmessage = ({ data }) => {
      if (socket !== this.socket) return;
      this.#wait();
      if (typeof data !== "string") { this.on.picture(unpack(data)); return; }
      const message = JSON.parse(data);
      if (message.type === "hello") { this.pause = FIRST_MS; this.on.state("connected"); }
      this.on.text(message);
    };
    socket.onclose = ({ code }) => {
      if (socket !== this.socket) return;
      this.on.state(code === 1013 ? "full" : "lost");
      this.#again(code === 1013 ? LONGEST_MS : this.pause);
    };
    this.#wait();
  }

  #wait() {
    clearTimeout(this.silence);
    this.silence = setTimeout(() => { this.on.state("lost"); this.#again(0); }, PATIENCE_MS);
  }

  #again(after) {
    clearTimeout(this.silence);
    clearTimeout(this.timer);
    this.lost = true;
    const old = this.socket;
    this.socket = null;
    old?.close();
    this.timer = setTimeout(() => this.#look(), after * (0.7 + 0.6 * Math.random()));
    this.pause = Math.min(LONGEST_MS, this.pause * 1.6);
  }

  /** Ask plainly first: a WebSocket that is refused is an error in the console, and says nothing of why. */
  async #look() {
    try {
      const answer = await fetch("/about", { cache: "no-store" });
      if (answer.status === 401) { location.assign("/login"); return; }
      if (answer.ok) { this.#open(); return; }
    } catch { /* nobody there yet */ }
    this.#again(this.pause);
  }
}

function unpack(data) {
  const view = new DataView(data);
  return {
    place: view.getUint16(0, true),
    width: view.getUint16(2, true),
    height: view.getUint16(4, true),
    time: view.getFloat64(8, true),
    jpeg: new Uint8Array(data, 16),
  };
}
