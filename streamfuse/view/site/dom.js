// Elements and words. Everything that comes from a stream becomes text here, never markup.

/** An element: attributes by name, `text` for what it says, `on` for listeners; then its children. */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "text") element.textContent = value;
    else if (name === "on") for (const [event, call] of Object.entries(value)) element.addEventListener(event, call);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Set a text only where it has changed: the browser then has nothing to do. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function mark(element, name, value) {
  if (element.dataset[name] !== value) element.dataset[name] = value;
}

export const percent = (thousandths) => `${Math.round(thousandths / 10)} %`;

/** An age given in microseconds. */
export function age(us) {
  const ms = us / 1000;
  if (ms < 9.95) return `${ms.toFixed(1)} ms`;
  return ms < 9995 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

/** The p50 and p99 of ages: 21 / 319 ms. */
export function ages([p50, p99]) {
  const [low, high] = [age(p50), age(p99)];
  return low.endsWith(" ms") === high.endsWith(" ms") ? `${low.replace(/ m?s$/, "")} / ${high}` : `${low} / ${high}`;
}

/** A length of time in milliseconds, for people. */
export function span(ms) {
  const s = ms / 1000;
  if (s < 9.95) return `${s.toFixed(1)} s`;
  if (s < 120) return `${Math.round(s)} s`;
  const minutes = Math.floor(s / 60);
  return minutes < 120 ? `${minutes} min ${Math.round(s % 60)} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** A place in a recording: 1:02:03.4 */
export function clock(ms, tenths = true) {
  const whole = Math.max(0, Math.floor(ms / 100));
  const s = Math.floor(whole / 10);
  const two = (n) => String(n).padStart(2, "0");
  const hours = Math.floor(s / 3600), minutes = Math.floor(s / 60) % 60;
  const text = hours ? `${hours}:${two(minutes)}:${two(s % 60)}` : `${minutes}:${two(s % 60)}`;
  return tenths ? `${text}.${whole % 10}` : text;
}

const times = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
/** The time of day of a moment in ms since 1970. */
export const timeOfDay = (ms) => times.format(ms);
