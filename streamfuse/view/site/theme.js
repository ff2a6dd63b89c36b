// Dark or light: as the system has it, or as chosen here. Runs before the first paint, so that nothing flashes.
"use strict";
(() => {
  const names = { auto: "as the system", light: "light", dark: "dark" };
  const signs = { auto: "◐", light: "☀", dark: "☾" };
  const root = document.documentElement;
  const read = () => { try { return localStorage.getItem("theme") ?? "auto"; } catch { return "auto"; } };
  const keep = (theme) => { try { localStorage.setItem("theme", theme); } catch { /* private mode: for this visit */ } };
  let theme = read() in names ? read() : "auto";

  const apply = () => {
    if (theme === "auto") delete root.dataset.theme; else root.dataset.theme = theme;
    const button = document.getElementById("theme");
    if (button) {
      button.textContent = signs[theme];
      button.title = button.ariaLabel = `Colours: ${names[theme]}`;
    }
    dispatchEvent(new Event("themechange"));
  };
  apply();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", apply);
  addEventListener("DOMContentLoaded", () => {
    document.getElementById("theme").addEventListener("click", () => {
      theme = { auto: "dark", dark: "light", light: "auto" }[theme];
      keep(theme);
      apply();
    });
    apply();
  });
})();
