// Labels over time as lanes of colour. All times are ms, of the clock (live) or of the file (a recording).

import { hex } from "./colours.js";

const LONGEST = 1600;
/** A label holds until the next one, but no longer than this: then there was none. */

const FONT = "12px system-ui, sans-serif";

/** Call paint(place, x0, x1) for each stretch of pixels between `from` and `to`; of several labels in one
    pixel, the last. */
function stretches(columns, from, to, width, hop, paint) {
  const times = columns.times, sessions = columns.sessions;
  const scale = width / (to - from);
  let place = Math.max(0, columns.at(from));
  for (const count = columns.length; place < count && times[place] < to;) {
    const x0 = Math.floor((times[place] - from) * scale);
    let next = place + 1;
    while (next < count && (times[next] - from) * scale < x0 + 1) next++;
    const shown = next - 1;
    const follows = next < count && sessions[next] === sessions[shown] && times[next] - times[shown] <= LONGEST;
    const until = follows ? times[next] : times[shown] + hop;
    // Whole pixels: where two colours share one, a thin line would show between them.
    paint(shown, Math.max(0, x0), Math.min(width, Math.max(x0 + 1, Math.floor((until - from) * scale))));
    place = next;
  }
}

/** One head as a thin band: colour says the label, strength the score. */
export function band(pen, columns, head, colours, from, to, width, top, height, hop) {
  pen.fillStyle = hex("sunk");
  pen.fillRect(0, top, width, height);
  stretches(columns, from, to, width, hop, (place, x0, x1) => {
    const { said, top: best } = columns.answer(head, place);
    if (!best.length) return;
    if (columns.heads[head].kind === "sigmoid" && !said.length) return;
    const label = said[0] ?? best[0][0];
    pen.globalAlpha = 0.35 + 0.65 * columns.score(head, place, label) / 1000;
    pen.fillStyle = said.length ? hex(colours[head][label]) : hex("unknown");
    pen.fillRect(x0, top, x1 - x0, height);
  });
  pen.globalAlpha = 1;
}

/** One softmax head as a hill: colour says the label, height the score; labels that last are named. */
export function hill(pen, columns, head, colours, from, to, width, top, height, hop) {
  pen.fillStyle = hex("sunk");
  pen.fillRect(0, top, width, height);
  const runs = [];
  stretches(columns, from, to, width, hop, (place, x0, x1) => {
    const { said, top: best } = columns.answer(head, place);
    if (!best.length) return;
    const label = said[0] ?? -1;
    const high = height * best[0][1] / 1000;
    pen.fillStyle = label < 0 ? hex("unknown") : hex(colours[head][label]);
    pen.fillRect(x0, top + height - high, x1 - x0, high);
    const last = runs.at(-1);
    if (last && last.label === label && x0 - last.x1 < 8) last.x1 = x1;
    else runs.push({ label, x0, x1 });
  });
  const names = columns.heads[head].labels;
  for (const run of runs) if (run.label >= 0) name(pen, names[run.label], run.x0, run.x1, top + height - 5);
}

/** One label of a sigmoid head as a low hill of its own. */
export function ridge(pen, columns, head, label, colour, from, to, width, top, height, hop) {
  pen.fillStyle = hex("sunk");
  pen.fillRect(0, top, width, height);
  stretches(columns, from, to, width, hop, (place, x0, x1) => {
    const score = columns.score(head, place, label);
    if (!score) return;
    const high = height * score / 1000;
    pen.globalAlpha = columns.said[head][place].includes(label) ? 1 : 0.4;
    pen.fillStyle = hex(colour);
    pen.fillRect(x0, top + height - high, x1 - x0, high);
  });
  pen.globalAlpha = 1;
  name(pen, columns.heads[head].labels[label], 0, width, top + height - 4);
}

/** A text where there is room for it, on a patch that keeps it readable on any colour. */
function name(pen, text, x0, x1, baseline) {
  pen.font = FONT;
  const wide = pen.measureText(text).width;
  if (wide + 14 > x1 - x0) return;
  pen.globalAlpha = 0.84;
  pen.fillStyle = hex("card");
  pen.beginPath();
  pen.roundRect(x0 + 3, baseline - 12, wide + 8, 16, 4);
  pen.fill();
  pen.globalAlpha = 1;
  pen.fillStyle = hex("ink");
  pen.fillText(text, x0 + 7, baseline);
}

/** The labels of a sigmoid head that are worth a lane of their own between two times, best first. */
export function loudest(columns, head, from, to, most) {
  const peaks = new Map();
  for (let place = Math.max(0, columns.at(from)); place < columns.length && columns.times[place] < to; place++) {
    const top = columns.top[head][place];
    for (let i = 0; i < top.length; i += 2) if (top[i + 1] > (peaks.get(top[i]) ?? 0)) peaks.set(top[i], top[i + 1]);
  }
  return [...peaks].sort((a, b) => b[1] - a[1]).slice(0, most).map(([label]) => label);
}

/** p50 and p99 of the age over time; rows: [ms, p50 us, p99 us]. */
export function ageChart(pen, rows, from, to, width, top, height, write) {
  pen.fillStyle = hex("sunk");
  pen.fillRect(0, top, width, height);
  const shown = rows.filter(([time]) => time >= from - 4000 && time <= to);
  if (!shown.length) return;
  const most = ceiling(Math.max(...shown.map((row) => row[2])));
  const x = (time) => (time - from) * width / (to - from), y = (us) => top + height - 2 - (height - 6) * us / most;
  pen.font = FONT;
  pen.strokeStyle = hex("line");
  pen.lineWidth = 1;
  for (const share of [0.5, 1]) {
    pen.beginPath();
    pen.moveTo(0, y(most * share));
    pen.lineTo(width, y(most * share));
    pen.stroke();
  }
  for (const [column, colour] of [[2, "warn"], [1, "accent"]]) {
    pen.strokeStyle = pen.fillStyle = hex(colour);
    pen.lineWidth = 1.8;
    pen.beginPath();
    let before = -Infinity;
    for (const row of shown) {
      if (row[0] - before > 6000) pen.moveTo(x(row[0]), y(row[column])); else pen.lineTo(x(row[0]), y(row[column]));
      before = row[0];
    }
    pen.stroke();
    if (shown.length === 1) pen.fillRect(x(shown[0][0]) - 2, y(shown[0][column]) - 2, 4, 4);
  }
  pen.fillStyle = hex("soft");
  pen.fillText(write(most), 4, top + 14);
}

/** The next round number of microseconds. */
function ceiling(us) {
  const power = 10 ** Math.floor(Math.log10(Math.max(1000, us)));
  return [1, 2, 5, 10].map((n) => n * power).find((n) => n >= us);
}

/** Round times for an axis of so many pixels. */
export function marks(from, to, width) {
  const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400].map((s) => s * 1000);
  const step = steps.find((ms) => ms * width / (to - from) >= 78) ?? steps.at(-1);
  const found = [];
  for (let time = Math.ceil(from / step) * step; time <= to; time += step) found.push(time);
  return found;
}
