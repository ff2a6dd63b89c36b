// One source's labels over time, as columns: what the timelines draw and what is shown of a moment.

const SPARE = 512;
const SET_BACK_MS = 5000;
/** A label that is older than the last one by more than what may wait on the way: the clock was set back. */

export class Columns {
  /** heads: [{name, kind, labels}]; limit: labels that are kept. */
  constructor(heads, limit = Infinity) {
    this.heads = heads;
    this.limit = limit;
    this.clear();
  }

  clear() {
    this.times = [];
    this.sessions = [];
    this.presence = [];
    this.faces = [];
    this.said = this.heads.map(() => []);
    this.top = this.heads.map(() => []);
  }

  get length() { return this.times.length; }

  /** values: one [said, top] per head; face: [x, y, w, h] in 1/1000 of the picture, or null. A label that is older than the last one is not taken; where the clock was
      set back, those of the time that is still to come are forgotten. */
  push(time, session, presence, values, face = null) {
    const last = this.times.at(-1);
    if (time <= last && time > last - SET_BACK_MS) return false;
    if (time <= last) this.#cut(this.at(time) + 1);
    this.times.push(time);
    this.sessions.push(session);
    this.presence.push(presence);
    this.faces.push(face);
    values.forEach(([said, top], head) => { this.said[head].push(said); this.top[head].push(top); });
    if (this.times.length > this.limit + SPARE) this.#trim(this.times.length - this.limit);
    return true;
  }

  get #all() { return [this.times, this.sessions, this.presence, this.faces, ...this.said, ...this.top]; }

  #trim(count) { for (const column of this.#all) column.splice(0, count); }

  #cut(length) { for (const column of this.#all) column.length = length; }

  /** The place of the last label that began at `time` or before; -1: there is none. */
  at(time) {
    let low = 0, high = this.times.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.times[middle] <= time) low = middle + 1; else high = middle;
    }
    return low - 1;
  }

  /** What a head says at a place: {said: [label], top: [[label, score]]}, the labels by their places. */
  answer(head, place) {
    const top = this.top[head][place] ?? [];
    const pairs = [];
    for (let i = 0; i < top.length; i += 2) pairs.push([top[i], top[i + 1]]);
    return { said: this.said[head][place] ?? [], top: pairs };
  }

  /** A label's score at a place, in 1/1000; 0 where it is not among the best. */
  score(head, place, label) {
    const top = this.top[head][place];
    for (let i = 0; i < top.length; i += 2) if (top[i] === label) return top[i + 1];
    return 0;
  }
}
