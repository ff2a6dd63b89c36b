// All sources at once: a card each.

import { Sheet } from "./canvas.js";
import { el, mark, percent, say } from "./dom.js";
import { band } from "./lanes.js";
import { Picture } from "./picture.js";
import { showStatus } from "./states.js";

const BAND = 8;
const HOP = 100;

export const address = (name) => `#/source/${encodeURIComponent(name)}`;

class Card {
  constructor(store, source) {
    Object.assign(this, { store, source });
    this.picture = new Picture(source.name);
    this.visible = true;
    this.chip = el("span", { class: "state" });
    this.trouble = el("p", { class: "trouble", hidden: true });
    this.values = {};
    const facts = [["age", "age p50 / p99"], ["fps", "fps"], ["dropped", "dropped"], ["reconnects", "reconnects"]];
    const list = el("dl", { class: "facts" }, ...facts.map(([key, title]) => {
      this.values[key] = el("dd");
      return el("div", {}, el("dt", { text: title }), this.values[key]);
    }));
    this.lanes = store.heads.map((head, place) => this.#lane(head, place));
    this.element = el("article", { class: "card source", "data-source": source.name },
      el("div", { class: "screen" }, this.picture.canvas, this.trouble,
        el("h2", {}, el("a", { href: address(source.name), text: source.name })), this.chip),
      el("div", { class: "heads" }, ...this.lanes.map((lane) => lane.element)),
      list);
  }

  #lane(head, place) {
    const said = el("strong"), score = el("small");
    const canvas = el("canvas", { role: "img", "aria-label": `${head.name} over the last minutes` });
    const sheet = new Sheet(canvas, BAND, (pen, width, height) => {
      const now = this.store.now();
      band(pen, this.source.columns, place, this.store.colours, this.store.start(now), now, width, 0, height, HOP);
    });
    const element = el("div", { class: "head" },
      el("p", {}, el("span", { class: "soft", text: head.name }), said, score), canvas);
    return { said, score, sheet, element };
  }

  update() {
    const { source } = this;
    showStatus(source.status, { ...this.values, chip: this.chip, trouble: this.trouble });
    mark(this.element, "state", source.status?.state ?? "starting");
    mark(this.element, "tick", String(source.tick));
    mark(this.element, "session", String(source.columns.sessions.at(-1) ?? -1));
    this.picture.frame(source.columns.faces.at(-1));
    const last = source.columns.length - 1;
    this.lanes.forEach((lane, head) => {
      const { said, top } = last < 0 ? { said: [], top: [] } : source.columns.answer(head, last);
      const { kind, labels } = this.store.heads[head];
      say(lane.said, said.map((label) => labels[label]).join(", ") || (kind === "softmax" && top.length ? "unknown" : "–"));
      say(lane.score, said.length && top.length ? percent(source.columns.score(head, last, said[0])) : "");
    });
  }

  draw() { for (const lane of this.lanes) lane.sheet.draw(); }
}

export class Wall {
  /** seen(places): called when other cards have come into sight. */
  constructor(store, seen) {
    this.store = store;
    this.cards = [];
    this.element = el("section", { class: "wall", "aria-label": "Sources" });
    this.watch = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        const card = this.cards.find((one) => one.element === entry.target);
        if (card) card.visible = entry.isIntersecting;
      }
      seen(this.cards.filter((card) => card.visible).map((card) => card.source.place));
    }, { rootMargin: "80px" });
    this.#grow();
  }

  #grow() {
    for (const source of this.store.sources.slice(this.cards.length)) {
      const card = new Card(this.store, source);
      this.cards.push(card);
      this.element.append(card.element);
      this.watch.observe(card.element);
    }
    mark(this.element, "count", this.cards.length > 9 ? "many" : String(this.cards.length));
  }

  picture(still) { this.cards[still.place]?.picture.show(still); }

  update() {
    this.#grow();
    for (const card of this.cards) if (card.visible) card.update();
  }

  draw() { for (const card of this.cards) if (card.visible) card.draw(); }

  close() { this.watch.disconnect(); }
}
