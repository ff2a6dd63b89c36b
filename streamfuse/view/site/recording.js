// A finished recording: its video, what is said at the moment it shows, and all of it over time.

import { Columns } from "./columns.js";
import { coloursOf } from "./colours.js";
import { clock, el, mark, percent, say, span } from "./dom.js";
import { Answers, Timeline } from "./timeline.js";

const ZOOM = 2;
const SHORTEST_MS = 2000;

export class Recording {
  static async open(main) {
    const answer = await fetch("/recording");
    if (!answer.ok) throw new Error(`the labels: ${answer.status}`);
    return new Recording(main, await answer.json());
  }

  constructor(main, data) {
    this.data = data;
    this.columns = columnsOf(data);
    this.colours = data.heads.map((head) => coloursOf(head.labels));
    this.cursor = data.starts[0];
    this.view = [data.starts[0], data.end];
    this.answers = new Answers(this.columns, this.colours);
    this.position = el("p", { class: "position" });
    this.timeline = new Timeline({
      columns: this.columns, colours: this.colours, ages: agesOf(data), hop: data.hop * data.every,
      write: (ms) => clock(ms, this.view[1] - this.view[0] < 60000), choose: (time) => this.seek(time), label: "Position in the recording",
    });
    this.timeline.canvas.ariaValueMin = (data.starts[0] / 1000).toFixed(1);
    this.timeline.canvas.ariaValueMax = (data.end / 1000).toFixed(1);
    main.replaceChildren(this.#page());
    this.#header();
    addEventListener("themechange", () => this.#show());
    this.seek(this.cursor);
  }

  seek(time) {
    this.cursor = Math.min(Math.max(this.data.starts[0], time), this.data.end);
    if (this.video && this.video.readyState > 0) this.video.currentTime = this.cursor / 1000;
    else this.wanted = this.cursor;
    this.#show();
  }

  #show() {
    const [from, to] = this.view, wide = to - from;
    if (this.cursor < from || this.cursor > to) { // the video has run out of what is in sight
      const start = Math.min(Math.max(this.data.starts[0], this.cursor - wide * 0.1), Math.max(this.data.starts[0], this.data.end - wide));
      this.view = [start, start + wide];
    }
    this.timeline.show(...this.view, this.cursor);
    this.answers.show(this.columns.at(this.cursor));
    this.#frame();
    say(this.position, `${clock(this.cursor)} of ${clock(this.data.end)}`);
    mark(this.element, "position", (this.cursor / 1000).toFixed(2));
    for (const row of this.rows) row.element.classList.toggle("open", row.start <= this.cursor && this.cursor < row.end);
  }

  #zoom(factor) {
    const whole = [this.data.starts[0], this.data.end];
    const wide = Math.min(whole[1] - whole[0], Math.max(SHORTEST_MS, (this.view[1] - this.view[0]) / factor));
    const start = Math.min(Math.max(whole[0], this.cursor - wide / 2), whole[1] - wide);
    this.view = [start, start + wide];
    this.#show();
  }

  #page() {
    const { data } = this;
    const film = data.video ? this.#film() : null;
    const button = (text, label, call) => el("button", { type: "button", "aria-label": label, text, on: { click: call } });
    const zoom = el("div", { class: "zoom" }, button("−", "Show more of it", () => this.#zoom(1 / ZOOM)),
      button("+", "Show it closer", () => this.#zoom(ZOOM)), button("all", "Show all of it", () => this.#zoom(0)));
    const few = data.every > 1 ? ` · every ${data.every}th label` : "";
    this.element = el("section", { class: "detail recording" },
      el("div", { class: "titles" }, el("h1", { text: data.name }), el("p", { class: "soft", text: `${span(data.end - data.starts[0])} · ${data.ticks} labels${few}` })),
      el("div", { class: film ? "stage" : "stage alone" }, film,
        el("div", { class: "card now" }, el("div", { class: "row" }, el("h2", { text: "At this moment" }), this.position), this.answers.element)),
      el("div", { class: "below-stage" },
        el("section", { class: "card" },
          el("div", { class: "row" }, el("h2", {}, "Timeline ", el("small", { text: "click to go there" })), zoom), this.timeline.element),
        this.#events()));
    return this.element;
  }

  #film() {
    this.video = el("video", { src: "/video", controls: true, playsinline: true, preload: "metadata", "aria-label": `Video of ${this.data.name}` });
    const trouble = el("p", { class: "trouble", hidden: true, text: "This browser cannot play this video; the timeline works without it." });
    const follow = () => { this.cursor = this.video.currentTime * 1000; this.#show(); };
    this.video.addEventListener("loadedmetadata", () => {
      if (this.wanted !== undefined) this.video.currentTime = this.wanted / 1000;
      if (!this.video.videoWidth) mark(this.video, "only", "sound");
    });
    this.video.addEventListener("seeked", follow);
    new ResizeObserver(() => this.#frame()).observe(this.video);
    this.video.addEventListener("error", () => { trouble.hidden = false; this.video.hidden = true; });
    const step = () => { if (!this.video.paused) follow(); requestAnimationFrame(step); };
    step();
    this.face = el("i", { class: "face", hidden: true });
    return el("div", { class: "card screen large" }, this.video, this.face, trouble);
  }

  /** The face that was read at this moment, over the video as it is shown: as large as fits, in the middle. */
  #frame() {
    const { video, face, columns } = this;
    const box = columns.faces[columns.at(this.cursor)];
    if (!video) return;
    face.hidden = !box || !video.videoWidth || video.hidden;
    if (face.hidden) return;
    const scale = Math.min(video.clientWidth / video.videoWidth, video.clientHeight / video.videoHeight);
    const wide = video.videoWidth * scale, high = video.videoHeight * scale;
    const left = video.offsetLeft + (video.clientWidth - wide) / 2, top = video.offsetTop + (video.clientHeight - high) / 2;
    const [x, y, w, h] = box.map((share) => share / 1000);
    Object.assign(face.style, { left: `${left + x * wide}px`, top: `${top + y * high}px`, width: `${w * wide}px`, height: `${h * high}px` });
  }

  #events() {
    this.rows = [];
    const list = el("ol", { class: "events" });
    for (const [head, label, start, end, peak] of this.data.events.slice(0, 500)) {
      const dot = el("i", { class: "dot" });
      dot.style.background = `var(--${this.colours[head][label]})`;
      const element = el("li", {}, dot, el("button", { type: "button", class: "plain", on: { click: () => this.seek(start) } },
        el("span", { class: "line" }, el("strong", { text: this.data.heads[head].labels[label] }), el("span", { class: "soft", text: this.data.heads[head].name }), el("small", { text: percent(peak) })),
        el("span", { class: "line below" }, el("time", { text: clock(start) }), el("span", { class: "soft", text: `lasted ${span(end - start)}` }))));
      list.append(element);
      this.rows.push({ element, start, end });
    }
    const empty = this.rows.length ? null : el("p", { class: "empty", text: "No events: none lasted, or their file is not beside the labels." });
    return el("section", { class: "card log" }, el("h2", { text: "Events" }), empty, list);
  }

  #header() {
    document.title = `${this.data.name} · streamfuse`;
    say(document.getElementById("summary"), "a recording");
    document.getElementById("link").hidden = true;
  }
}

function columnsOf(data) {
  const columns = new Columns(data.heads);
  data.starts.forEach((start, i) => columns.push(
    start, data.sessions[i], data.presence[i], data.heads.map((head) => [head.said[i], head.top[i]]), data.faces?.[i]));
  return columns;
}

/** p50 and p99 of every two seconds, where the labels have ages: those of a live run have. */
function agesOf(data) {
  if (!data.ages) return null;
  const rows = [];
  let taken = [], until = data.starts[0] + 2000;
  data.starts.forEach((start, i) => {
    if (start >= until && taken.length) {
      taken.sort((a, b) => a - b);
      rows.push([until, taken[taken.length >> 1], taken[Math.min(taken.length - 1, Math.floor(taken.length * 0.99))]]);
      taken = [];
      until = start + 2000;
    }
    if (data.ages[i] !== null) taken.push(data.ages[i]);
  });
  return rows;
}
