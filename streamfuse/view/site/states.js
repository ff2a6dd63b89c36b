// The state of a source in words.

import { ages, mark, say } from "./dom.js";

export const WORDS = {
  starting: "starting",
  live: "live",
  stalled: "stalled",
  reconnecting: "reconnecting",
  lost: "restarting",
  failed: "failed",
  ended: "ended",
  paused: "paused",
};

const WHY = {
  starting: "Waiting for the first picture or sound.",
  stalled: "Connected, but nothing new comes.",
  reconnecting: "The source is away; it is tried again and again.",
  lost: "The process that reads it has died and is being started again.",
  failed: "It cannot be read.",
  ended: "It has ended.",
  paused: "It was let go of, until it is resumed.",
};

/** Why nothing new comes, for people; empty while it does. */
export function why(status) {
  if (!status || status.state === "live") return "";
  if (status.state === "stalled" && status.fps > 0.5) return "Pictures come, but no labels: the analyzer is too busy, or away.";
  // "The source is away; it is tried again and again: nobody listens at the address."
  return status.trouble ? `${WHY[status.state].slice(0, -1)}: ${status.trouble}` : WHY[status.state];
}

/** Show a status in the elements {chip, trouble, age, fps, dropped, reconnects}. */
export function showStatus(status, parts) {
  const state = status?.state ?? "starting";
  mark(parts.chip, "state", state);
  say(parts.chip, WORDS[state] ?? state);
  const text = why(status);
  say(parts.trouble, text);
  parts.trouble.hidden = !text;
  say(parts.age, status?.age ? ages(status.age) : "–");
  say(parts.fps, status?.fps === null || status?.fps === undefined ? "–" : status.fps.toFixed(1));
  say(parts.dropped, String(status?.dropped ?? 0));
  say(parts.reconnects, String(status?.reconnects ?? 0));
  mark(parts.dropped, "bad", status?.dropped ? "yes" : "no");
}
