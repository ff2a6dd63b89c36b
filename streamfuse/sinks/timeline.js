"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const root = document.documentElement;
  const data = JSON.parse($("data").textContent);
  let colour = {};

  function setTheme(dark) {
    root.classList.toggle("dark", dark);
    const style = getComputedStyle(root);
    const names = ["ink", "soft", "line", "sunk", "card", "accent", "unknown", "none", "ok", "held", "missing"];
    for (let i = 0; i < 12; i++) names.push("c" + i);
    colour = Object.fromEntries(names.map((name) => [name, style.getPropertyValue("--" + name).trim()]));
  }
  const preferred = matchMedia("(prefers-color-scheme: dark)");
  setTheme(preferred.matches);
  $("theme").addEventListener("click", () => { setTheme(!root.classList.contains("dark")); if (data.cells) draw(); });
  preferred.addEventListener("change", () => { setTheme(preferred.matches); if (data.cells) draw(); });
  if (!data.cells) return;

  const unpack = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  for (const head of data.heads) {
    if (head.kind === "one") { head.codes = unpack(head.codes); head.levels = unpack(head.levels); }
    else for (const lane of head.lanes) lane.levels = unpack(lane.levels);
  }
  for (const view of data.presence) view.codes = unpack(view.codes);

  const canvas = $("canvas"), pen = canvas.getContext("2d"), tip = $("tip"), video = $("video");
  const GUTTER = 104, AXIS = 26, MAP = 30, BAND = 62, LANE = 18, STRIP = 12, GAP = 14;
  const font = (size, weight = 400) => `${weight} ${size}px ${getComputedStyle(document.body).fontFamily}`;
  const total = Math.max(data.duration, data.cell);
  let view = [0, total], width = 0, playhead = 0, hover = null, drag = null, lit = null;

  // One row after the other: where each is drawn, top to bottom.
  const rows = [];
  let height = AXIS;
  for (const head of data.heads) {
    if (head.kind === "one") { rows.push({ head, top: height, height: BAND }); height += BAND + GAP; continue; }
    if (!head.lanes.length) continue;
    rows.push({ head, title: true, top: height, height: LANE }); height += LANE;
    for (const lane of head.lanes) { rows.push({ head, lane, top: height, height: LANE - 3 }); height += LANE; }
    height += GAP;
  }
  for (const seen of data.presence) { rows.push({ seen, top: height, height: STRIP }); height += STRIP + 7; }
  const body = height;
  height += 10 + MAP + 2;

  const plot = () => width - GUTTER - 2;
  const xOf = (s) => GUTTER + (s - view[0]) / (view[1] - view[0]) * plot();
  const sOf = (x) => view[0] + (x - GUTTER) / plot() * (view[1] - view[0]);
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
  const cellOf = (s) => clamp(Math.floor(s / data.cell + 1e-6), 0, data.cells - 1);

  function clockText(s, places = 1) {
    const units = Math.round(s * 10 ** places), minutes = Math.floor(units / (60 * 10 ** places));
    const rest = (units / 10 ** places - minutes * 60).toFixed(places).padStart(places ? places + 3 : 2, "0");
    const hours = Math.floor(minutes / 60);
    return (hours ? hours + ":" + String(minutes % 60).padStart(2, "0") : minutes) + ":" + rest;
  }

  // The code said most and its mean level between two cells: what one column of pixels shows.
  const votes = new Uint32Array(256), sums = new Float64Array(256);
  function said(head, from, to) {
    let best = data.empty;
    const seen = [];
    for (let cell = from; cell < to; cell++) {
      const code = head.codes[cell];
      if (code === data.empty) continue;
      if (!votes[code]) seen.push(code);
      votes[code]++; sums[code] += head.levels[cell];
    }
    let most = 0, level = 0;
    for (const code of seen) if (votes[code] > most) { most = votes[code]; best = code; }
    if (most) level = sums[best] / most / data.full;
    for (const code of seen) votes[code] = sums[code] = 0;
    return [best, level];
  }
  const peak = (levels, from, to) => { let top = 0; for (let c = from; c < to; c++) if (levels[c] > top) top = levels[c]; return top / data.full; };
  const hex = (name) => colour[name] || colour.c0;
  const labelOf = (head, code) => head.labels[code] ?? "other";
  const colourOf = (head, code) => head.colours[code] ?? "unknown";

  function eachColumn(left, right, from, to, paint) {
    for (let x = left; x < right; x++) {
      const a = from + (x - left) / (right - left) * (to - from), b = from + (x + 1 - left) / (right - left) * (to - from);
      if (a >= total) break;
      const first = cellOf(a);
      paint(x, first, clamp(Math.ceil(b / data.cell - 1e-6), first + 1, data.cells));
    }
  }

  function drawBand(row) {
    const { head, top, height: high } = row;
    let run = null;
    const runs = [];
    eachColumn(GUTTER, GUTTER + plot(), view[0], view[1], (x, from, to) => {
      const [code, level] = said(head, from, to);
      if (code === data.empty) { run = null; return; }
      const name = labelOf(head, code), faint = lit && lit.head === head.name && lit.label !== name;
      pen.fillStyle = hex(colourOf(head, code));
      pen.globalAlpha = faint ? 0.05 : 0.2;
      pen.fillRect(x, top, 1, high);
      pen.globalAlpha = faint ? 0.15 : 1;
      const tall = Math.max(2, level * high);
      pen.fillRect(x, top + high - tall, 1, tall);
      if (run && run.code === code) run.end = x + 1; else runs.push(run = { code, name, faint, start: x, end: x + 1 });
    });
    pen.globalAlpha = 1;
    pen.font = font(12, 600);
    pen.textBaseline = "alphabetic";
    for (const { name, start, end, faint } of runs) {
      if (faint || end - start < 26) continue;
      const wide = pen.measureText(name).width;
      if (end - start < wide + 14) continue;
      pen.fillStyle = colour.card; pen.globalAlpha = 0.82;
      pen.beginPath(); pen.roundRect(start + 4, top + high - 20, wide + 10, 16, 4); pen.fill();
      pen.globalAlpha = 1; pen.fillStyle = colour.ink;
      pen.fillText(name, start + 9, top + high - 8);
    }
    pen.fillStyle = colour.card;
    for (const { start } of runs.slice(1)) if (runs.length < plot() / 8) pen.fillRect(start - 0.5, top, 1, high);
  }

  function drawLane(row) {
    const { lane, top, height: high } = row;
    pen.fillStyle = colour.sunk;
    pen.fillRect(GUTTER, top, plot(), high);
    pen.fillStyle = hex(lane.colour);
    eachColumn(GUTTER, GUTTER + plot(), view[0], view[1], (x, from, to) => {
      const level = peak(lane.levels, from, to);
      if (!level) return;
      pen.globalAlpha = 0.25 + 0.75 * level;
      pen.fillRect(x, top, 1, high);
    });
    pen.globalAlpha = 1;
  }

  const STATES = ["ok", "held", "missing"];
  function drawStrip(row) {
    const { seen, top, height: high } = row;
    eachColumn(GUTTER, GUTTER + plot(), view[0], view[1], (x, from, to) => {
      const count = [0, 0, 0];
      for (let cell = from; cell < to; cell++) if (seen.codes[cell] !== data.empty) count[seen.codes[cell]]++;
      const all = count[0] + count[1] + count[2];
      let y = top;
      // Worst on top, at least a pixel of it: one lost frame in an hour must still be seen.
      for (const state of [2, 1, 0]) {
        if (!count[state]) continue;
        const tall = state ? Math.max(1.5, count[state] / all * high) : top + high - y;
        pen.fillStyle = colour[STATES[state]];
        pen.fillRect(x, y, 1, Math.min(tall, top + high - y));
        y += tall;
      }
    });
  }

  function drawAxis() {
    const span = view[1] - view[0], least = span / plot() * 84;
    const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 36000, 86400];
    const step = steps.find((s) => s >= least) || 172800;
    pen.font = font(12); pen.textBaseline = "middle"; pen.textAlign = "center";
    for (let k = Math.ceil(view[0] / step - 1e-9); k * step <= view[1] + 1e-9; k++) {
      const x = Math.round(xOf(k * step)) + 0.5;
      pen.strokeStyle = colour.line;
      pen.beginPath(); pen.moveTo(x, AXIS - 6); pen.lineTo(x, body - 4); pen.stroke();
      pen.fillStyle = colour.soft;
      pen.fillText(clockText(k * step, step < 1 ? 1 : 0), clamp(x, GUTTER + 4, width - 22), 8);
    }
    pen.textAlign = "left";
  }

  function drawGutter() {
    pen.textBaseline = "middle";
    for (const row of rows) {
      const name = row.lane ? row.lane.label : row.head ? row.head.name : row.seen.name;
      pen.font = row.lane || row.seen ? font(12) : font(14, 620);
      pen.fillStyle = row.lane || row.seen ? colour.soft : colour.ink;
      let text = name;
      while (text.length > 3 && pen.measureText(text).width > GUTTER - 14) text = text.slice(0, -2).trimEnd() + "…";
      pen.fillText(text, 0, row.top + row.height / 2 + 0.5);
    }
  }

  function drawMap() {
    const top = body + 8, head = data.heads.find((h) => h.kind === "one");
    pen.fillStyle = colour.sunk; pen.fillRect(GUTTER, top, plot(), MAP);
    if (head) eachColumn(GUTTER, GUTTER + plot(), 0, total, (x, from, to) => {
      const [code, level] = said(head, from, to);
      if (code === data.empty) return;
      pen.fillStyle = hex(colourOf(head, code)); pen.globalAlpha = 0.35 + 0.5 * level;
      pen.fillRect(x, top + 4, 1, MAP - 8);
    });
    pen.globalAlpha = 1;
    pen.font = font(12); pen.fillStyle = colour.soft; pen.fillText("overview", 0, top + MAP / 2);
    const left = GUTTER + view[0] / total * plot(), right = GUTTER + view[1] / total * plot();
    pen.fillStyle = colour.card; pen.globalAlpha = 0.72;
    pen.fillRect(GUTTER, top, left - GUTTER, MAP); pen.fillRect(right, top, GUTTER + plot() - right, MAP);
    pen.globalAlpha = 1; pen.strokeStyle = colour.accent; pen.lineWidth = 1.5;
    pen.strokeRect(left + 0.75, top + 0.75, Math.max(3, right - left - 1.5), MAP - 1.5);
    pen.lineWidth = 1;
  }

  function drawMarks() {
    pen.save();
    pen.beginPath(); pen.rect(GUTTER - 6, 0, plot() + 12, body); pen.clip();
    pen.strokeStyle = colour.ink; pen.setLineDash([3, 3]);
    for (const [start] of data.sessions.slice(1)) vertical(xOf(start), AXIS - 6);
    pen.setLineDash([]);
    if (hover !== null) { pen.strokeStyle = colour.soft; vertical(xOf(hover), AXIS - 6); }
    const x = xOf(playhead);
    pen.strokeStyle = pen.fillStyle = colour.accent; pen.lineWidth = 2; vertical(x, AXIS - 6); pen.lineWidth = 1;
    pen.beginPath(); pen.moveTo(x - 5, AXIS - 10); pen.lineTo(x + 5, AXIS - 10); pen.lineTo(x, AXIS - 3); pen.fill();
    if (drag && drag.moved && !drag.map) {
      pen.globalAlpha = 0.18; pen.fillRect(xOf(drag.from), AXIS - 6, xOf(hover ?? drag.from) - xOf(drag.from), body - AXIS); pen.globalAlpha = 1;
    }
    pen.restore();
  }
  const vertical = (x, top) => { pen.beginPath(); pen.moveTo(x, top); pen.lineTo(x, body - 4); pen.stroke(); };

  // The bands change only with the view; the marks move with the mouse and the recording.
  let still = null;
  function draw() {
    width = canvas.clientWidth;
    const scale = devicePixelRatio || 1;
    canvas.style.height = height + "px";
    canvas.width = Math.round(width * scale); canvas.height = Math.round(height * scale);
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    drawAxis(); drawGutter();
    for (const row of rows) if (row.lane) drawLane(row); else if (row.seen) drawStrip(row); else if (!row.title) drawBand(row);
    drawMap();
    still = document.createElement("canvas");
    still.width = canvas.width; still.height = canvas.height;
    still.getContext("2d").drawImage(canvas, 0, 0);
    drawMarks();
  }
  function move() {
    pen.save(); pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, canvas.width, canvas.height); pen.drawImage(still, 0, 0);
    pen.restore(); drawMarks();
  }

  function answers(s) {
    const cell = cellOf(s), found = [];
    for (const head of data.heads) {
      if (head.kind === "one") {
        const code = head.codes[cell];
        if (code !== data.empty) found.push([head.name, labelOf(head, code), head.levels[cell] / data.full, colourOf(head, code)]);
        continue;
      }
      const on = head.lanes.filter((lane) => lane.levels[cell]).sort((a, b) => b.levels[cell] - a.levels[cell]);
      if (on.length) found.push([head.name, on.slice(0, 3).map((lane) => lane.label).join(", "), on[0].levels[cell] / data.full, on[0].colour]);
    }
    return found;
  }
  const make = (tag, text, kind) => { const node = document.createElement(tag); if (text) node.textContent = text; if (kind) node.className = kind; return node; };

  function showTip(event) {
    const s = sOf(event.offsetX), cell = cellOf(s);
    const lines = answers(s).map(([name, label, score]) => { const p = make("p"); p.append(make("em", name), label, make("small", score.toFixed(2))); return p; });
    const bad = data.presence.filter((v) => v.codes[cell] === 1 || v.codes[cell] === 2).map((v) => v.name + " " + STATES[v.codes[cell]]);
    if (bad.length) { const p = make("p"); p.append(make("em", "note"), bad.join(", ")); lines.push(p); }
    tip.replaceChildren(make("b", clockText(s)), ...lines);
    tip.hidden = false;
    const left = event.offsetX + 16 + tip.offsetWidth > width ? event.offsetX - tip.offsetWidth - 14 : event.offsetX + 16;
    tip.style.transform = `translate(${Math.max(0, left)}px, ${clamp(event.offsetY + 14, 0, Math.max(0, height - tip.offsetHeight))}px)`;
  }

  function showNow() {
    $("clock").textContent = clockText(playhead);
    const said = new Map(answers(playhead).map((answer) => [answer[0], answer]));
    $("now").replaceChildren(...data.heads.map((head) => {
      const [, label, score, tint] = said.get(head.name) || [null, "–", 0, "none"];
      const box = make("div"), dd = make("dd"), meter = make("div", "", "meter"), fill = make("i", "", tint);
      dd.append(make("span", label), make("small", score ? score.toFixed(2) : ""));
      fill.style.width = score * 100 + "%";
      meter.append(fill);
      box.append(make("dt", head.name), dd, meter);
      return box;
    }));
  }

  function look(from, to) {
    const span = clamp(to - from, Math.min(total, data.cell * 20), total);
    const start = clamp((from + to - span) / 2, 0, total - span);
    view = [start, start + span];
    draw();
  }
  const zoom = (factor, around) => look(around - (around - view[0]) * factor, around + (view[1] - around) * factor);
  const centre = () => (playhead >= view[0] && playhead <= view[1] ? playhead : (view[0] + view[1]) / 2);

  function go(s, fromVideo) {
    playhead = clamp(s, 0, total);
    if (!fromVideo && video.readyState > 0) video.currentTime = playhead;
    showNow();
    const span = view[1] - view[0];
    if (playhead < view[0] || playhead > view[1]) look(playhead - span * 0.1, playhead + span * 0.9); else move();
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    drag = { from: sOf(event.offsetX), x: event.offsetX, map: event.offsetY > body, moved: false, view: [...view] };
    canvas.setPointerCapture(event.pointerId);
    if (drag.map) mapTo(event);
  });
  function mapTo(event) {
    const s = (event.offsetX - GUTTER) / plot() * total, span = view[1] - view[0];
    look(s - span / 2, s + span / 2);
  }
  canvas.addEventListener("pointermove", (event) => {
    if (drag && drag.map) { mapTo(event); return; }
    if (drag && Math.abs(event.offsetX - drag.x) > 5) drag.moved = true;
    const inside = event.offsetX >= GUTTER && event.offsetY < body;
    hover = inside || drag ? clamp(sOf(event.offsetX), view[0], view[1]) : null;
    if (inside && !drag?.moved) showTip(event); else tip.hidden = true;
    move();
  });
  canvas.addEventListener("pointerup", (event) => {
    const done = drag;
    drag = null;
    if (!done || done.map) return;
    if (!done.moved) { if (event.offsetX >= GUTTER && event.offsetY < body) go(clamp(sOf(event.offsetX), 0, total)); return; }
    const to = clamp(sOf(event.offsetX), view[0], view[1]);
    look(Math.min(done.from, to), Math.max(done.from, to));
  });
  canvas.addEventListener("pointerleave", () => { hover = null; tip.hidden = true; move(); });
  canvas.addEventListener("dblclick", () => look(0, total));
  canvas.addEventListener("wheel", (event) => {
    if (event.ctrlKey || event.metaKey) { event.preventDefault(); zoom(Math.exp(event.deltaY * 0.003), clamp(sOf(event.offsetX), view[0], view[1])); return; }
    const across = event.shiftKey ? event.deltaY : event.deltaX;
    if (!across || view[1] - view[0] >= total) return;
    event.preventDefault();
    const by = across / plot() * (view[1] - view[0]);
    look(view[0] + by, view[1] + by);
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const keys = { ArrowLeft: () => go(playhead - 5), ArrowRight: () => go(playhead + 5), "+": () => zoom(0.5, centre()), "=": () => zoom(0.5, centre()), "-": () => zoom(2, centre()), "0": () => look(0, total), " ": () => (video.paused ? video.play() : video.pause()) };
    if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
  });
  $("in").addEventListener("click", () => zoom(0.5, centre()));
  $("out").addEventListener("click", () => zoom(2, centre()));
  $("fit").addEventListener("click", () => look(0, total));
  for (const row of document.querySelectorAll("tr[data-t]")) {
    row.addEventListener("click", () => { go(Number(row.dataset.t)); $("stage").scrollIntoView({ behavior: "smooth", block: "nearest" }); });
    row.addEventListener("keydown", (event) => { if (event.key === "Enter") row.click(); });
  }
  for (const chip of document.querySelectorAll(".chip")) chip.addEventListener("click", () => {
    const on = chip.getAttribute("aria-pressed") !== "true";
    for (const other of document.querySelectorAll(".chip")) other.setAttribute("aria-pressed", "false");
    chip.setAttribute("aria-pressed", String(on));
    lit = on ? { head: chip.dataset.head, label: chip.dataset.label } : null;
    draw();
  });

  video.addEventListener("loadedmetadata", () => {
    $("film").hidden = false; $("stage").classList.add("playing"); $("pick").hidden = true;
    video.currentTime = playhead;
    draw();
  });
  const follow = () => { go(video.currentTime, true); if (!video.paused) requestAnimationFrame(follow); };
  video.addEventListener("play", follow);
  video.addEventListener("seeked", () => go(video.currentTime, true));
  $("file").addEventListener("change", (event) => { if (event.target.files[0]) video.src = URL.createObjectURL(event.target.files[0]); });
  if (video.dataset.src) video.src = video.dataset.src;

  new ResizeObserver(() => { if (canvas.clientWidth !== width) draw(); }).observe(canvas);
  draw();
  showNow();
  root.dataset.ready = "true";
})();
