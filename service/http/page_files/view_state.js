// The parts of the view that a link holds: models, window, sample, ways to view, levels, line, boundary, place.

import * as viewLink from "./view_link.js";
import { restoreView, viewState, viewer } from "./views.js";

const $ = (id) => document.getElementById(id);
const NUMBER = /^\d{1,6}(\.\d{1,9})?$/;
const ALL_LEVELS = { black: 0, white: 255 };
const MOST_LINES = 999;

// sample(): name of the shown sample, or ""; onSample(button): show one; onSettings(), onSecond(): the model
// or the window, or the second model is another. Returns {modelsListed, shown}: to be called when the models
// are known, and when a picture is shown.
export function registerView({ sample, onSample, onSettings, onSecond }) {
  // What a link says and cannot be applied yet: models before they are listed, places before a picture.
  const wanted = { model: "", left: "", at: "", line: "" };
  const linked = { at: "", line: "" }; // the same of the whole link, for the sample that it names

  viewLink.register("model", () => wanted.model || (isDefaultModel() ? "" : $("model").value), (text) => {
    wanted.model = text;
    if (chooseModel()) onSettings();
  });
  viewLink.register("left", () => wanted.left || $("left-model").value, (text) => {
    wanted.left = text;
    if (text ? chooseOption("left") : clearSecond()) onSecond();
  });
  viewLink.register("window", () => $("window").value.trim(), (text) => {
    if (!/^(\d{1,5}\s*,\s*\d{1,5})?$/.test(text) || $("window").value === text) return;
    $("window").value = text;
    onSettings();
  });
  for (const name of ["layer", "layout", "lr", "greys"]) {
    const inputs = [...document.querySelectorAll(`#view-tools input[name="${name}"]`)];
    const usual = inputs.find(({ defaultChecked }) => defaultChecked).value;
    viewLink.register(name, () => {
      const value = viewState()[name];
      return value === usual ? "" : value;
    }, (text) => {
      const value = text || usual;
      if (inputs.some((input) => input.value === value) && viewState()[name] !== value) restoreView({ [name]: value });
    });
  }
  viewLink.register("levels", () => {
    const { black, white } = viewState().levels;
    return black === ALL_LEVELS.black && white === ALL_LEVELS.white ? "" : `${black},${white}`;
  }, (text) => {
    const numbers = numbersOf(text, 2);
    if (!text) restoreView({ levels: ALL_LEVELS });
    else if (numbers && numbers[0] < numbers[1] && numbers[1] <= 255) restoreView({ levels: { black: numbers[0], white: numbers[1] } });
  });
  viewLink.register("at", () => {
    if (!viewer.right) return wanted.at;
    const { split, place: { zoom, centre, isFitted } } = viewState();
    if (isFitted) return split === 0.5 ? "" : `fit,${short(split)}`;
    return [zoom / viewer.ratio, ...centre, split].map(short).join(",");
  }, (text) => {
    linked.at = wanted.at = text || "fit,0.5";
    move();
  });
  viewLink.register("line", () => {
    if (!viewer.right) return wanted.line;
    const { profile } = viewState();
    return profile ? [...profile.line.from, ...profile.line.to, profile.width, 100 * profile.share].map(short).join(",") : "";
  }, (text) => {
    linked.line = wanted.line = text;
    if (text) drawLine();
    else restoreView({ profile: null });
  });
  // Last: by now the settings are those of the link.
  viewLink.register("sample", sample, (text) => {
    const button = [...document.querySelectorAll("[data-sample]")].find(({ dataset }) => nameOf(dataset.sample) === text);
    if (!button) return;
    Object.assign(wanted, linked);
    onSample(button);
  });

  // --- models ---

  // Choose the wanted option of a list; whether that changed it.
  function chooseOption(name) {
    const select = $(name === "left" ? "left-model" : "model");
    const option = [...select.options].find(({ value, disabled }) => value === wanted[name] && !disabled);
    if (!option) return false;
    wanted[name] = "";
    if (select.value === option.value) return false;
    select.value = option.value;
    return true;
  }

  function chooseModel() {
    wanted.model ||= $("model").options[0]?.value ?? "";
    return chooseOption("model");
  }

  function clearSecond() {
    const was = $("left-model").value;
    $("left-model").value = "";
    return Boolean(was);
  }

  function isDefaultModel() {
    return !$("model").value || $("model").value === $("model").options[0]?.value;
  }

  // A model that is not ready yet is waited for, until people choose another.
  for (const [id, name] of [["model", "model"], ["left-model", "left"]]) {
    $(id).addEventListener("change", () => (wanted[name] = ""));
  }

  function modelsListed() {
    const isModel = wanted.model && chooseOption("model");
    const isSecond = wanted.left && chooseOption("left");
    if (isModel) onSettings();
    else if (isSecond) onSecond();
  }

  // --- what needs a picture ---

  function shown() {
    move();
    drawLine();
  }

  function move() {
    if (!viewer.right || !wanted.at) return;
    const [first, ...rest] = wanted.at.split(",");
    wanted.at = "";
    const numbers = numbersOf(rest.join(","), first === "fit" ? 1 : 3);
    const split = numbers?.at(-1);
    if (!numbers || split > 1) return;
    if (first === "fit") {
      restoreView({ place: { isFitted: true }, split });
    } else if (NUMBER.test(first) && Number(first) > 0) {
      const centre = [Math.min(numbers[0], viewer.right.width), Math.min(numbers[1], viewer.right.height)];
      restoreView({ place: { zoom: Number(first) * viewer.ratio, centre }, split });
    }
  }

  function drawLine() {
    if (!viewer.right || !wanted.line) return;
    const numbers = numbersOf(wanted.line, 6);
    wanted.line = "";
    if (!numbers) return;
    const [x1, y1, x2, y2, width, share] = numbers;
    if (width < 1 || width > MOST_LINES || width % 1 || share < 10 || share > 90) return;
    restoreView({ profile: { line: { from: [x1, y1], to: [x2, y2] }, width, share: share / 100 } });
  }

  $("copy-link").addEventListener("click", async () => {
    const text = viewLink.link();
    $("copy-link").textContent = (await copy(text)) ? "Copied" : "Copy failed: use the address";
    setTimeout(() => ($("copy-link").textContent = "Copy link"), 2500);
  });

  return { modelsListed, shown };
}

export const nameOf = (path) => path.split("/").pop().replace(/\.[^.]*$/, "");

const short = (value) => String(Number(value.toFixed(6)));

// Numbers of a text with commas; null for another count, or where one is not a number.
function numbersOf(text, count) {
  const parts = text.split(",");
  return parts.length === count && parts.every((part) => NUMBER.test(part)) ? parts.map(Number) : null;
}

// The clipboard's own interface is for HTTPS only; many services in fabs have none.
async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text).then(() => true, () => false);
  const field = document.createElement("textarea");
  field.value = text;
  field.className = "off-screen";
  document.body.append(field);
  field.select();
  const isCopied = document.execCommand("copy");
  field.remove();
  $("copy-link").focus();
  return isCopied;
}
