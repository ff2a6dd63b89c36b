// Where the page begins: what is there to show?

import { el } from "./dom.js";

const main = document.getElementById("main");

try {
  const answer = await fetch("/about", { cache: "no-store" });
  const { mode } = await answer.json();
  document.body.dataset.mode = mode;
  if (mode === "recording") {
    const { Recording } = await import("./recording.js");
    await Recording.open(main);
  } else {
    const { Live } = await import("./live.js");
    new Live(main);
  }
} catch (error) {
  main.replaceChildren(el("p", { class: "empty", text: `The page could not be loaded (${error.message}). Load it again.` }));
}
