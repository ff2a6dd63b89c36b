// What began and what ended, newest first.

import { el, percent, say, span, timeOfDay } from "./dom.js";
import { address } from "./wall.js";

const SHOWN = 60;

export class Events {
  /** source: only of this one; null: of all. */
  constructor(store, source = null) {
    Object.assign(this, { store, source });
    this.rows = new Map();
    this.list = el("ol", { class: "events" });
    this.empty = el("p", { class: "empty", text: "Nothing has begun yet." });
    this.element = el("section", { class: "card log" }, el("h2", { text: "Events" }), this.empty, this.list);
  }

  update() {
    const events = [];
    for (let i = this.store.events.length - 1; i >= 0 && events.length < SHOWN; i--) {
      const event = this.store.events[i];
      if (this.source === null || event.place === this.source) events.push(event);
    }
    this.empty.hidden = events.length > 0;
    const wanted = new Set(events.map((event) => event.key));
    for (const [key, row] of this.rows) if (!wanted.has(key)) { row.element.remove(); this.rows.delete(key); }
    let before = null;
    for (const event of events) {
      const row = this.rows.get(event.key) ?? this.#row(event);
      const follows = before ? before.nextSibling : this.list.firstChild;
      if (row.element !== follows) this.list.insertBefore(row.element, follows);
      before = row.element;
      const open = event.ended === undefined;
      row.element.classList.toggle("open", open);
      say(row.when, open ? `for ${span(Math.max(0, this.store.now() - event.began))}` : `lasted ${span(event.end - event.start)}`);
      say(row.peak, percent(event.peak));
    }
  }

  #row(event) {
    const { heads, colours } = this.store;
    const dot = el("i", { class: "dot" });
    dot.style.background = `var(--${colours[event.head][event.label]})`;
    const when = el("span", { class: "soft" }), peak = el("small");
    const source = this.source === null ? el("a", { href: address(event.source), text: event.source }) : null;
    const element = el("li", {}, dot,
      el("div", {},
        el("p", {}, el("strong", { text: heads[event.head].labels[event.label] }), el("span", { class: "soft", text: heads[event.head].name }), peak),
        el("p", { class: "below" }, el("time", { text: timeOfDay(event.began) }), source, when)));
    const row = { element, when, peak };
    this.rows.set(event.key, row);
    return row;
  }
}
