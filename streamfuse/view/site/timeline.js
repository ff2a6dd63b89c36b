// All heads of one source over time, one below the other, with an axis; click, drag or keys choose a moment.

import { Sheet } from "./canvas.js";
import { hex } from "./colours.js";
import { age, el, percent, say } from "./dom.js";
import { ageChart, hill, loudest, marks, ridge } from "./lanes.js";

const TITLE = 22, HILL = 46, RIDGE = 20, AGES = 54, AXIS = 24, GAP = 6;
const RIDGES = 4;
const FONT = "12px system-ui, sans-serif";

export class Timeline {
  /** columns, colours  what is drawn, and each head's colours
      ages             [[ms, p50 us, p99 us], ...] or null
      write            time -> text, for the axis and the tip
      hop              ms that one label stands for where no other follows
      choose           called with a time where people may choose one; none: they may only look */
  constructor({ columns, colours, ages = null, write, hop, choose = null, label }) {
    Object.assign(this, { columns, colours, ages, write, hop, choose });
    this.from = 0;
    this.to = 1;
    this.cursor = null;
    this.lanes = [];
    this.canvas = el("canvas", choose
      ? { tabindex: "0", role: "slider", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 0, "aria-valuenow": 0 }
      : { role: "img", "aria-label": label });
    this.tip = el("div", { class: "tip", hidden: true });
    this.element = el("div", { class: choose ? "timeline choosing" : "timeline" }, this.canvas, this.tip);
    this.sheet = new Sheet(this.canvas, () => this.#layout(), (pen, width) => this.#paint(pen, width));
    this.#listen();
  }

  show(from, to, cursor = null) {
    Object.assign(this, { from, to: Math.max(to, from + 1), cursor });
    this.sheet.draw();
    if (this.choose && cursor !== null) {
      this.canvas.ariaValueNow = (cursor / 1000).toFixed(1);
      this.canvas.ariaValueText = this.write(cursor);
    }
  }

  /** Where each lane lies; returns the height of it all. */
  #layout() {
    let top = 0;
    this.lanes = [];
    this.columns.heads.forEach((head, place) => {
      if (head.kind === "softmax") {
        this.lanes.push({ title: head.name, top, body: top + TITLE, height: HILL, head: place });
        top += TITLE + HILL + GAP;
        return;
      }
      const labels = this.#ridges(place);
      this.lanes.push({ title: head.name, top, body: top + TITLE, height: RIDGES * RIDGE, head: place, labels });
      top += TITLE + RIDGES * RIDGE + GAP;
    });
    if (this.ages) {
      this.lanes.push({ title: "age", top, body: top + TITLE, height: AGES, ages: true });
      top += TITLE + AGES + GAP;
    }
    return top + AXIS;
  }

  /** The labels of a sigmoid head that have a lane; chosen anew once a second, or they would dance. */
  #ridges(head) {
    const now = performance.now();
    this.chosen ??= new Map();
    const known = this.chosen.get(head);
    if (known && now - known.at < 1000 && known.from === this.from) return known.labels;
    if (known && now - known.at < 1000 && !this.choose) return known.labels;
    const labels = loudest(this.columns, head, this.from, this.to, RIDGES).sort((a, b) => a - b);
    this.chosen.set(head, { at: now, from: this.from, labels });
    return labels;
  }

  #paint(pen, width) {
    const { columns, colours, from, to, hop } = this;
    for (const lane of this.lanes) {
      pen.font = FONT;
      pen.fillStyle = hex("soft");
      pen.fillText(lane.title, 0, lane.top + 15);
      if (lane.ages) this.#ageLegend(pen, lane);
      if (lane.ages) ageChart(pen, this.ages, from, to, width, lane.body, lane.height, age);
      else if (lane.labels) this.#paintRidges(pen, width, lane);
      else hill(pen, columns, lane.head, colours, from, to, width, lane.body, lane.height, hop);
    }
    this.#paintAxis(pen, width);
    if (this.cursor !== null) this.#paintCursor(pen, width);
  }

  #ageLegend(pen, lane) {
    for (const [text, colour, x] of [["p50", "accent", 40], ["p99", "warn", 92]]) {
      pen.fillStyle = hex(colour);
      pen.fillRect(x, lane.top + 9, 12, 3);
      pen.fillStyle = hex("soft");
      pen.fillText(text, x + 17, lane.top + 15);
    }
  }

  #paintRidges(pen, width, lane) {
    const { columns, colours, from, to, hop } = this;
    if (!lane.labels.length) { pen.fillStyle = hex("sunk"); pen.fillRect(0, lane.body, width, RIDGE - 2); }
    lane.labels.forEach((label, i) => ridge(
      pen, columns, lane.head, label, colours[lane.head][label], from, to, width, lane.body + i * RIDGE, RIDGE - 2, hop));
  }

  #paintAxis(pen, width) {
    const last = this.lanes.at(-1);
    if (!last) return;
    const bottom = last.body + last.height + GAP;
    pen.font = FONT;
    for (const time of marks(this.from, this.to, width)) {
      const x = (time - this.from) * width / (this.to - this.from);
      pen.fillStyle = hex("line");
      pen.fillRect(x, bottom - 2, 1, 5);
      const text = this.write(time), wide = pen.measureText(text).width;
      pen.fillStyle = hex("soft");
      pen.fillText(text, Math.min(Math.max(0, x - wide / 2), width - wide), bottom + 15);
    }
  }

  #paintCursor(pen, width) {
    const x = (this.cursor - this.from) * width / (this.to - this.from);
    if (x < 0 || x > width) return;
    const last = this.lanes.at(-1);
    pen.fillStyle = hex("ink");
    pen.fillRect(x - 1, TITLE - 4, 2, last.body + last.height - TITLE + 8);
  }

  #time(event) {
    const box = this.canvas.getBoundingClientRect();
    const share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
    return this.from + share * (this.to - this.from);
  }

  #listen() {
    const { canvas } = this;
    canvas.addEventListener("pointermove", (event) => {
      this.#point(event);
      if (this.choose && event.buttons & 1) this.choose(this.#time(event));
    });
    canvas.addEventListener("pointerleave", () => { this.tip.hidden = true; });
    if (!this.choose) return;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      canvas.setPointerCapture(event.pointerId);
      this.choose(this.#time(event));
    });
    canvas.addEventListener("keydown", (event) => this.#key(event));
  }

  #key(event) {
    const step = { ArrowLeft: -1000, ArrowRight: 1000, PageUp: 10000, PageDown: -10000 }[event.key];
    const place = { Home: 0, End: this.columns.times.at(-1) ?? 0 }[event.key];
    if (step === undefined && place === undefined) return;
    event.preventDefault();
    this.choose(Math.max(0, place ?? (this.cursor ?? 0) + (event.shiftKey ? step / 10 : step)));
  }

  /** The tip at the pointer: what was said then. */
  #point(event) {
    const time = this.#time(event), place = this.columns.at(time);
    if (place < 0) { this.tip.hidden = true; return; }
    const rows = this.columns.heads.map((head, i) => {
      const { said, top } = this.columns.answer(i, place);
      const shown = head.kind === "softmax" ? [said[0] ?? -1] : said;
      const text = shown.map((label) => (label < 0 ? "unknown" : head.labels[label])).join(", ") || "–";
      const score = top.length && (shown.length === 1) ? percent(shown[0] < 0 ? top[0][1] : this.columns.score(i, place, shown[0])) : "";
      return el("p", {}, el("em", { text: head.name }), el("span", { text }), el("small", { text: score }));
    });
    this.tip.replaceChildren(el("b", { text: this.write(time) }), ...rows);
    this.tip.hidden = false;
    const box = this.element.getBoundingClientRect(), x = event.clientX - box.left;
    const wide = this.tip.offsetWidth;
    this.tip.style.transform = `translate(${Math.round(Math.min(Math.max(0, x + 14), box.width - wide))}px, 4px)`;
  }
}

/** The moment's answers as bars: for each head, its best labels. */
export class Answers {
  constructor(columns, colours, most = 4) {
    Object.assign(this, { columns, colours, most });
    this.rows = columns.heads.map((head) => {
      const bars = Array.from({ length: Math.min(most, head.labels.length || most) }, () => {
        const bar = { name: el("span", { class: "name" }), fill: el("i"), score: el("small") };
        bar.element = el("li", {}, bar.name, el("span", { class: "meter" }, bar.fill), bar.score);
        return bar;
      });
      const said = el("strong");
      const list = el("ul", {}, ...bars.map((bar) => bar.element));
      return { bars, said, element: el("section", {}, el("h3", {}, el("span", { text: head.name }), said), list) };
    });
    this.element = el("div", { class: "answers" }, ...this.rows.map((row) => row.element));
  }

  show(place) {
    this.rows.forEach((row, head) => {
      const { said, top } = place < 0 ? { said: [], top: [] } : this.columns.answer(head, place);
      const { labels, kind } = this.columns.heads[head];
      const nothing = kind === "softmax" && top.length ? "unknown" : "–";
      say(row.said, said.map((label) => labels[label]).join(", ") || nothing);
      row.bars.forEach((bar, i) => {
        const pair = top[i];
        bar.element.hidden = !pair;
        if (!pair) return;
        say(bar.name, labels[pair[0]]);
        say(bar.score, percent(pair[1]));
        bar.fill.style.width = `${pair[1] / 10}%`;
        bar.fill.style.background = `var(--${this.colours[head][pair[0]]})`;
        bar.element.classList.toggle("said", said.includes(pair[0]));
      });
    });
  }
}
