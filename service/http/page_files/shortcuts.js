// Single keys for the view, their list, and full screen.

import { node } from "./answer.js";
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

// All keys of the page by what has the focus; those of the image are in gestures.js, of the list in picture_list.js.
const HELP = [
  ["Anywhere except in a field", [
    [["?"], "this list"],
    [["p", "g", "d", "c", "r"], "picture, gradient, difference, consistency, residual"],
    [["w"], "wipe or side by side"],
    [["m"], "left greys matched or as sent"],
    [["l"], "line profile on or off"],
    [["f"], "full screen"],
    [["s"], "save the view as PNG"],
  ]],
  ["With the image in focus", [
    [["arrows"], "pan"],
    [["+", "−"], "zoom"],
    [["0", "1"], "fit; one image pixel per screen pixel"],
    [["Page Up", "Page Down"], "previous, next file of the list"],
    [["Shift + arrows"], "move the line by one SR pixel"],
    [["drag"], "pan; with the line profile on, draw a line, or move it by its ends or its middle"],
    [["Shift + drag"], "line at a multiple of 45°"],
    [["wheel", "two fingers"], "zoom"],
  ]],
  ["With the list of files in focus", [
    [["↑", "↓"], "previous, next file"],
    [["Page Up", "Page Down"], "ten files up or down"],
    [["Home", "End"], "first, last file"],
  ]],
  ["With the slider below the image in focus", [[["arrows"], "move the boundary"]]],
];

function fillHelp() {
  $("help-keys").replaceChildren(...HELP.flatMap(([title, rows]) => {
    const list = node("dl");
    for (const [keys, words] of rows) {
      const row = node("div");
      const term = node("dt");
      term.append(...keys.flatMap((key) => [node("kbd", key), " "]));
      row.append(term, node("dd", words));
      list.append(row);
    }
    return [node("h3", title), list];
  }));
}

export function listenForKeys() {
  fillHelp();
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
