// Single keys for the view, their list, and full screen.

import { choose, profile, saveView } from "./views.js";

const $ = (id) => document.getElementById(id);
const value = (name) => document.querySelector(`input[name="${name}"]:checked`).value;
const other = (name, one, two) => choose(name, value(name) === one ? two : one);
const SWITCH = "semsr-shortcuts-off";

const ACTIONS = {
  p: () => choose("layer", "picture"),
  g: () => choose("layer", "gradient"),
  d: () => choose("layer", "difference"),
  c: () => choose("layer", "consistency"),
  r: () => choose("layer", "residual"),
  w: () => other("layout", "wipe", "side"),
  m: () => other("greys", "matched", "sent"),
  l: () => profile.toggle(),
  f: () => toggleFullscreen(),
  s: () => saveView(),
  "?": () => $("help").showModal(),
};

export function listenForKeys() {
  document.addEventListener("keydown", onKey);
  document.addEventListener("fullscreenchange", () => {
    $("fullscreen").setAttribute("aria-pressed", String(Boolean(document.fullscreenElement)));
  });
  $("fullscreen").hidden = !document.fullscreenEnabled;
  $("fullscreen").addEventListener("click", toggleFullscreen);
  $("help-open").addEventListener("click", () => $("help").showModal());
  $("help-close").addEventListener("click", () => $("help").close());
  // Speech input types letters: who uses it switches single keys off, for this tab.
  $("shortcuts-on").checked = !sessionStorage.getItem(SWITCH);
  $("shortcuts-on").addEventListener("change", ({ target }) => {
    if (target.checked) sessionStorage.removeItem(SWITCH);
    else sessionStorage.setItem(SWITCH, "true");
  });
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (document.querySelector("dialog[open]")) return;
  // In a field or a list, letters are text.
  if (event.target.closest?.("input:not([type=radio]):not([type=range]):not([type=checkbox]), select, textarea")) return;
  const action = ACTIONS[event.key];
  if (!action || (event.key !== "?" && !$("shortcuts-on").checked)) return;
  event.preventDefault();
  action();
}

async function toggleFullscreen() {
  try {
    if (document.fullscreenElement) await document.exitFullscreen();
    else await document.querySelector("main").requestFullscreen();
  } catch (error) {
    $("fullscreen").title = `The browser refuses full screen: ${error.message}`;
  }
}
