// A run as it goes: the wall or one source, whichever the address says, drawn as often as it is worth.

import { el, mark, say } from "./dom.js";
import { Detail } from "./detail.js";
import { Events } from "./events.js";
import { Line } from "./socket.js";
import { Store } from "./store.js";
import { Wall } from "./wall.js";

const WALL_MS = 250, DETAIL_MS = 100;
/** Between two drawings of the timelines: a pixel of the wall's is a second. */
const UNPAINTED = 50;
/** Messages that are kept until they are painted: four seconds of them, where a browser does not paint. */

const LINKS = {
  connecting: "connecting", connected: "connected", lost: "connection lost, trying again", full: "too many pages are open",
};

export class Live {
  constructor(main) {
    this.main = main;
    this.store = new Store();
    this.seen = null;
    this.pictures = new Map();
    this.drawn = 0;
    this.pending = [];
    this.line = new Line("/news", {
      text: (message) => this.#text(message),
      picture: (still) => this.#picture(still),
      state: (word) => this.#link(word),
    });
    addEventListener("hashchange", () => this.#route(true));
    document.addEventListener("visibilitychange", () => { this.pending = []; this.#ask(); });
    requestAnimationFrame((time) => this.#frame(time));
    // For tests and benchmarks/bench_view.py: [ms after telling, ms after the tick], what was missed, what waits.
    globalThis.streamfuseShown = () => ({ delays: this.store.delays, missed: this.store.missed, unpainted: this.pending.length });
  }

  #text(message) {
    if (message.type === "hello") {
      this.pictures.clear(); // they are kept by place, and places may be others now
      this.store.hello(message);
      this.#route(false);
      this.#ask();
    } else {
      this.store.news(message);
      if (!document.hidden) this.pending.push(message); // nothing is painted in a hidden tab
      if (this.pending.length > UNPAINTED) this.pending.shift();
    }
    this.dirty = true;
  }

  #picture(still) {
    this.pictures.set(still.place, still);
    if (this.wall) this.wall.picture(still);
    else this.detail?.show(still);
  }

  #link(word) {
    const link = document.getElementById("link");
    mark(link, "link", word);
    say(link, LINKS[word]);
    mark(document.body, "link", word);
  }

  /** Show what the address names. */
  #route(moved) {
    const named = /^#\/source\/(.+)$/.exec(location.hash);
    let source;
    try {
      source = named && this.store.sources[this.store.place(decodeURIComponent(named[1]))];
    } catch { /* not a name of ours */ }
    this.wall?.close();
    this.wall = this.detail = this.events = null;
    if (source) {
      this.detail = new Detail(this.store, source);
      this.main.replaceChildren(this.detail.element);
    } else {
      this.wall = new Wall(this.store, (places) => { this.seen = places; this.#ask(); });
      this.events = new Events(this.store);
      this.main.replaceChildren(el("div", { class: "overview" }, el("h1", { class: "hidden", text: "All sources" }), this.wall.element, this.events.element));
    }
    document.title = source ? `${source.name} · streamfuse` : "streamfuse";
    for (const still of this.pictures.values()) (this.wall ? this.wall.picture(still) : this.detail.show(still));
    if (moved) { this.main.focus({ preventScroll: true }); scrollTo(0, 0); }
    this.seen = null;
    this.dirty = true;
    this.#ask();
  }

  #ask() {
    if (!this.store.sources.length) return;
    const visible = this.detail ? null : this.seen;
    this.line.ask({ large: this.detail?.large ?? null, visible, paused: document.hidden });
  }

  #frame(time) {
    requestAnimationFrame((next) => this.#frame(next));
    if (!this.store.sources.length) return;
    if (this.dirty) {
      this.dirty = false;
      (this.wall ?? this.detail).update();
      this.#summary();
      for (const message of this.pending) this.store.painted(message);
      this.pending = [];
    }
    if (time - this.drawn < (this.wall ? WALL_MS : DETAIL_MS)) return;
    this.drawn = time;
    (this.wall ?? this.detail).draw();
    this.events?.update();
  }

  #summary() {
    const states = this.store.sources.map((source) => source.status?.state ?? "starting");
    const live = states.filter((state) => state === "live").length;
    const away = states.length - live;
    const text = `${live} of ${states.length} live${away ? "" : ", all well"}`;
    const summary = document.getElementById("summary");
    say(summary, text);
    mark(summary, "well", away ? "no" : "yes");
  }
}
