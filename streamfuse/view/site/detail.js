// One source, large: its picture, what is said now, the last minutes, its events; the others beside it.

import { el, mark, say, timeOfDay } from "./dom.js";
import { Events } from "./events.js";
import { Picture } from "./picture.js";
import { showStatus } from "./states.js";
import { Answers, Timeline } from "./timeline.js";
import { address } from "./wall.js";

const HOP = 100;

export class Detail {
  constructor(store, source) {
    Object.assign(this, { store, source });
    this.picture = new Picture(source.name);
    this.chip = el("span", { class: "state" });
    this.trouble = el("p", { class: "trouble", hidden: true });
    this.answers = new Answers(source.columns, store.colours);
    this.events = new Events(store, source.place);
    this.timeline = new Timeline({
      columns: source.columns, colours: store.colours, ages: source.ages, hop: HOP, write: timeOfDay,
      label: `Labels of ${source.name} over the last minutes`,
    });
    this.others = store.sources.filter((other) => other !== source).map((other) => this.#other(other));
    const strip = this.others.length
      ? el("nav", { class: "others", "aria-label": "Other sources", tabindex: "0" }, ...this.others.map((other) => other.element))
      : null;
    this.element = el("section", { class: "detail", "data-source": source.name },
      el("div", { class: "titles" }, el("a", { class: "back", href: "#/", text: "← All sources" }),
        el("h1", { text: source.name }), this.chip),
      strip,
      el("div", { class: "stage" },
        el("div", { class: "card screen large" }, this.picture.canvas, this.trouble),
        el("div", { class: "card now" }, el("h2", { text: "Now" }), this.answers.element, this.#facts())),
      el("div", { class: "below-stage" },
        el("section", { class: "card" },
          el("h2", {}, "Last minutes ", el("small", { text: "colour and height: label and score" })), this.timeline.element),
        this.events.element));
  }

  #facts() {
    this.values = {};
    const facts = [
      ["age", "age p50 / p99"], ["fps", "frames/s"], ["rate", "labels/s"], ["dropped", "dropped"],
      ["reconnects", "reconnects"], ["session", "session"], ["seen", "modalities"],
    ];
    return el("dl", { class: "facts" }, ...facts.map(([key, title]) => {
      this.values[key] = el("dd");
      return el("div", {}, el("dt", { text: title }), this.values[key]);
    }));
  }

  #other(source) {
    const picture = new Picture(source.name), said = el("span", { class: "soft" });
    const element = el("a", { href: address(source.name), class: "other" },
      picture.canvas, el("strong", { text: source.name }), said);
    return { source, picture, said, element };
  }

  get large() { return this.source.place; }

  show(still) {
    if (still.place === this.source.place) this.picture.show(still);
    else this.others.find((other) => other.source.place === still.place)?.picture.show(still);
  }

  update() {
    const { source, values } = this;
    showStatus(source.status, { ...values, chip: this.chip, trouble: this.trouble });
    mark(this.element, "state", source.status?.state ?? "starting");
    mark(this.element, "tick", String(source.tick));
    say(values.rate, (source.status?.rate ?? 0).toFixed(1));
    const last = source.columns.length - 1;
    const number = source.columns.sessions[last] ?? source.status?.session ?? "–", reason = source.status?.reason;
    say(values.session, reason && reason !== "start" ? `${number} (${reason})` : String(number));
    const presence = source.columns.presence[last] ?? {};
    say(values.seen, Object.entries(presence).map(([name, how]) => (how === "ok" ? name : `${name} ${how}`)).join(", ") || "–");
    this.picture.frame(source.columns.faces.at(-1));
    this.answers.show(last);
    for (const other of this.others) {
      const { status } = other.source;
      mark(other.element, "state", status?.state ?? "starting");
      const { said } = other.source.columns.length ? other.source.columns.answer(0, other.source.columns.length - 1) : { said: [] };
      say(other.said, status?.state === "live" ? said.map((label) => this.store.heads[0].labels[label]).join(", ") || "–" : status?.state ?? "");
      other.picture.frame(other.source.columns.faces.at(-1));
    }
    this.events.update();
  }

  draw() {
    const now = this.store.now();
    this.timeline.ages = this.source.ages;
    this.timeline.show(this.store.start(now), now);
  }
}
