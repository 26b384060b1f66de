// The parts of the view that a link holds: model, window, sample, ways to view, boundary, zoom and position.

import * as viewLink from "./view_link.js";

const $ = (id) => document.getElementById(id);
const NUMBER = /^\d{1,6}(\.\d{1,9})?$/;

// viewer: the Viewer; sample(): path of the shown sample, or ""; onSample(path), onView(): apply a change.
// Returns {modelsListed, shown}: to be called when the models are known, and when a picture is shown.
export function registerView({ viewer, sample, onSample, onView, onSettings }) {
  let wanted = { model: "", at: "" };

  viewLink.register("model", () => (isDefaultModel() ? "" : $("model").value), (text) => {
    wanted.model = text;
    if (chooseModel()) onSettings();
  });
  viewLink.register("window", () => $("window").value.trim(), (text) => {
    if (!/^(\d{1,5}\s*,\s*\d{1,5})?$/.test(text) || $("window").value === text) return;
    $("window").value = text;
    onSettings();
  });
  // Every group of ways to view, whichever there are.
  const groups = new Set([...document.querySelectorAll('#view-tools input[type="radio"]')].map(({ name }) => name));
  for (const name of groups) {
    const inputs = [...document.querySelectorAll(`#view-tools input[name="${name}"]`)];
    viewLink.register(name, () => inputs.find(({ checked, defaultChecked }) => checked && !defaultChecked)?.value ?? "", (text) => {
      const input = inputs.find(({ value, defaultChecked }) => (text ? value === text : defaultChecked));
      if (!input || input.checked) return;
      input.checked = true;
      onView();
    });
  }
  viewLink.register("at", () => {
    if (!viewer.right) return wanted.at;
    const { zoom, centre, isFitted } = viewer;
    const split = viewer.split.toFixed(3);
    if (isFitted && viewer.split === 0.5) return "";
    return isFitted ? `fit,${split}` : [zoom / viewer.ratio, ...centre].map((value) => String(Number(value.toFixed(6)))).concat(split).join(",");
  }, (text) => {
    wanted.at = text;
    move();
  });
  // Last: by now the settings are those of the link.
  viewLink.register("sample", sample, (text) => {
    const button = [...document.querySelectorAll("[data-sample]")].find(({ dataset }) => nameOf(dataset.sample) === text);
    if (button) onSample(button);
  });

  function chooseModel() {
    const option = [...$("model").options].find(({ value, disabled }) => value === wanted.model && !disabled);
    if (!option) return false;
    wanted.model = "";
    if ($("model").value === option.value) return false;
    $("model").value = option.value;
    return true;
  }

  function isDefaultModel() {
    return !$("model").value || $("model").value === $("model").options[0]?.value;
  }

  function move() {
    if (!viewer.right || !wanted.at) return;
    const [first, ...rest] = wanted.at.split(",");
    wanted.at = "";
    const numbers = rest.map((text) => (NUMBER.test(text) ? Number(text) : NaN));
    if (first === "fit" && numbers.length === 1 && numbers[0] <= 1) {
      viewer.fit();
    } else if (NUMBER.test(first) && Number(first) > 0 && numbers.length === 3 && numbers[2] <= 1) {
      viewer.zoomTo(Number(first) * viewer.ratio);
      viewer.centre = [Math.min(numbers[0], viewer.right.width), Math.min(numbers[1], viewer.right.height)];
    } else {
      return;
    }
    viewer.onSplit(numbers.at(-1));
  }

  $("copy-link").addEventListener("click", async () => {
    const text = viewLink.link();
    $("copy-link").textContent = (await copy(text)) ? "Copied" : "Copy failed: use the address";
    setTimeout(() => ($("copy-link").textContent = "Copy link"), 2500);
  });

  return { modelsListed: chooseModel, shown: move };
}

export const nameOf = (path) => path.split("/").pop().replace(/\.[^.]*$/, "");

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
