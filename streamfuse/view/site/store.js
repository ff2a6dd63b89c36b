// What this page knows of a run: its sources, their last minutes, events and state. Bounded, whatever comes.

import { Columns } from "./columns.js";
import { coloursOf } from "./colours.js";

const EVENTS = 300;
const DELAYS = 2000;
const CLOCK_SET_MS = 5000;
const YOUNGEST = 30000;
/** A timeline is at least so long, in ms. */

export class Store {
  constructor() {
    this.heads = [];
    this.colours = [];
    this.sources = [];
    this.events = [];
    this.minutes = 5;
    this.skew = 0;
    this.missed = 0;
    this.delays = [];
  }

  /** The server's clock, in ms. */
  now() { return Date.now() + this.skew; }

  /** Where the timelines begin: so many minutes ago, or with the run where that is younger. */
  start(now) {
    const first = Math.min(now - YOUNGEST, ...this.sources.map((source) => source.columns.times[0] ?? now));
    return Math.max(now - this.minutes * 60000, first);
  }

  /** The first message: everything begins with what the server remembers. */
  hello(message) {
    this.skew = message.now - Date.now();
    if (Math.abs(this.skew) < 1000) this.skew = 0; // the way here takes a moment, and that is no skew
    this.minutes = message.minutes;
    this.heads = message.heads;
    this.colours = message.heads.map((head) => coloursOf(head.labels));
    this.sources = [];
    message.sources.forEach((name, place) => this.#source(place, name));
    message.labels.forEach((rows, place) => rows.forEach((row) => this.#label(row, place)));
    message.ages.forEach((rows, place) => { this.sources[place].ages = rows; });
    this.events = [];
    message.events.toSorted((a, b) => a[7] - b[7]).forEach((row) => this.#event(row));
    message.status.forEach((status, place) => { this.sources[place].status = status; });
  }

  news(message) {
    this.#clock(message.now);
    if (message.status) {
      const [names, rows] = message.status;
      names.forEach((name, place) => this.#source(place, name));
      rows.forEach((status, place) => { this.sources[place].status = status; });
    }
    message.labels?.forEach((row) => this.#label(row, row[0]));
    message.events?.forEach((row) => this.#event(row));
    message.ages?.forEach(([place, ...row]) => this.#age(this.sources[place], row));
    this.missed += message.missed ?? 0;
  }

  /** Either clock may be set while the page is open; what is only late on its way here is not so late. */
  #clock(now) {
    const skew = now - Date.now();
    if (Math.abs(skew - this.skew) > CLOCK_SET_MS) this.skew = skew;
  }

  /** Note how many ms after they were told, and after the end of their tick, a message's labels were shown. */
  painted(message) {
    const now = this.now();
    for (const row of message.labels ?? []) this.delays.push([now - row[3] - (row[4] ?? 0) / 1000, now - row[3]]);
    if (this.delays.length > DELAYS) this.delays.splice(0, this.delays.length - DELAYS);
  }

  place(name) { return this.sources.findIndex((source) => source.name === name); }

  #source(place, name) {
    if (this.sources[place]) return;
    const limit = this.minutes * 600 + 600; // ten a second, and a minute to spare
    const columns = new Columns(this.heads, limit);
    this.sources[place] = { place, name, columns, ages: [], status: null, tick: -1, open: new Map() };
  }

  #label(row, place) {
    const source = this.sources[place];
    if (!source || row[3] === null || !source.columns.push(row[3], row[1], row[6], row[7], row[8])) return;
    source.tick = row[2];
  }

  #age(source, row) {
    if (!source) return;
    while (source.ages.at(-1)?.[0] > row[0]) source.ages.pop(); // the clock was set back
    source.ages.push(row);
    if (source.ages.length > this.minutes * 30) source.ages.splice(0, source.ages.length - this.minutes * 30);
  }

  /** One entry for the beginning and the end of a label. */
  #event([place, session, head, label, kind, start, end, time, peak]) {
    const source = this.sources[place];
    if (!source) return;
    const key = `${session}/${head}/${label}/${start}`;
    const known = source.open.get(key);
    if (kind === "end") source.open.delete(key);
    if (known) { Object.assign(known, { end, ended: time, peak }); return; }
    const event = { place, source: source.name, session, head, label, start, end, peak, key: `${place}/${key}` };
    if (kind === "new") {
      source.open.set(key, event);
      event.began = time;
    } else {
      event.ended = time;
      event.began = time - (end - start);
    }
    this.events.push(event);
    if (this.events.length > EVENTS) this.events.splice(0, this.events.length - EVENTS);
  }
}
