// A colour for each label: emotions by custom, the others in turn; the same ones as in the timeline files.

const COUNT = 12;
const USUAL = {
  sad: 0, sadness: 0, surprise: 1, surprised: 1, disgust: 2, disgusted: 2, angry: 3, anger: 3, fear: 4, fearful: 4,
  calm: 5, happy: 10, happiness: 10, neutral: 11,
};
const NO_ANSWER = ["unknown", "none"];

/** The names of the colours (c0, ...) of a head's labels, in their order. */
export function coloursOf(labels) {
  const chosen = labels.map((label) => (NO_ANSWER.includes(label) ? "none" : null));
  const taken = new Set();
  labels.forEach((label, i) => {
    const usual = USUAL[label.toLowerCase()];
    if (usual !== undefined && !taken.has(usual)) { chosen[i] = `c${usual}`; taken.add(usual); }
  });
  const free = [...Array(COUNT).keys()].filter((n) => !taken.has(n));
  const pool = free.length ? free : [...Array(COUNT).keys()];
  // In the order of the alphabet: a model names them in its own order, a recording in that of their coming.
  labels.map((label, i) => [label, i]).filter(([, i]) => chosen[i] === null).sort(([a], [b]) => (a < b ? -1 : 1))
    .forEach(([, i], turn) => { chosen[i] = `c${pool[turn % pool.length]}`; });
  return chosen;
}

let values = {};
/** What a colour's name means in the colours that are shown now. */
export function hex(name) {
  if (!(name in values)) values[name] = getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  return values[name];
}
addEventListener("themechange", () => { values = {}; });
