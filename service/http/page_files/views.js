// The view of an answer: what its two sides show, its greys, its readout, and what is saved of it.

import { brokenLimits, node } from "./answer.js";
import { automaticLevels, drawGreys, emptyGreys, fillGreys } from "./greys_panel.js";
import { layersOf, missing } from "./layers.js";
import { paintOverlays } from "./overlays.js";
import { ProfilePanel } from "./profile_panel.js";
import { offer, viewAsPng } from "./saving.js";
import { lengthWords, readPixelSize, sizeWords } from "./scale.js";
import { readQuality } from "./service.js";
import { changed } from "./view_link.js";
import { Viewer } from "./viewer.js";

const $ = (id) => document.getElementById(id);
const inputsOf = (name) => [...document.querySelectorAll(`#view-tools input[name="${name}"]`)];
const chosen = (name) => inputsOf(name).find(({ checked }) => checked).value;
const WIDE_LEVELS = { black: 0, white: 255 };

let compared = null; // the worker's answer, with the names and headers of its pictures
let last = null; // the picture that was shown last: its `about`
let shown = null; // what layersOf returned for it
let levels = { ...WIDE_LEVELS };
let wantedLayer = chosen("layer"); // shown again once a picture has it

export const viewer = new Viewer($("canvas"), $("overlay"), { onChange: showReadout, onSplit: setSplit, onPaint: paintOver });
export const profile = new ProfilePanel(viewer, {
  picturesOf: profilePictures, onPixelSize: () => viewer.draw(),
});

// result: the worker's answer; about: {name, title, range, stem, headers, otherName, unshown, isTiled, isListed}:
// the name of the file, what its caption says, its grey range in words, the stem of saved files, and the rest.
export function show(result, about) {
  // The same file by another model, or another one of the list: the view stays where it is.
  const keepView = last?.name === about.name || (last?.isListed && about.isListed);
  last = about;
  compared = { ...result, ...about, rightName: about.headers.get("x-model") };
  showPictures({ keepView });
  fillGreys(compared);
  drawGreys(compared, levels);
  profile.refresh();
  for (const id of ["save-view", "profile-toggle"]) $(id).disabled = false;
  document.body.dataset.shown = "true";
}

export function clear() {
  free(shown);
  compared = shown = null;
  viewer.clear();
  profile.refresh();
  emptyGreys();
  $("tag-left").hidden = $("tag-right").hidden = true;
  $("view-words").textContent = "";
  for (const id of ["save-view", "profile-toggle"]) $(id).disabled = true;
  delete document.body.dataset.shown;
}

// Size of an SR pixel: that of the answer, else the entered one; null where neither is known.
function pixelSize() {
  const { headers } = compared;
  const known = readPixelSize(headers.get("x-pixel-size-nm"));
  const entered = profile.enteredSize;
  const scale = Number(headers.get("x-scale"));
  return known ?? (entered && scale ? { x: entered.x / scale, y: entered.y / scale } : null);
}

// The boundary at a column of the SR.
export function splitAt(x) {
  if (compared) setSplit(viewer.shareAt(x));
}

export function choose(name, value) {
  const input = inputsOf(name).find((one) => one.value === value);
  if (input.disabled || input.checked) return;
  input.checked = true;
  input.dispatchEvent(new Event("change", { bubbles: true }));
}

// Show a place of the LR, strongest of the residual, near enough to be judged.
export function showPlace({ x, y }) {
  choose("layer", "residual");
  const scale = compared.pictures[1].width / compared.sent.width;
  viewer.goTo({ zoom: Math.max(viewer.zoom, 3 * viewer.ratio), centre: [(x + 0.5) * scale, (y + 0.5) * scale] });
  if (chosen("layout") === "wipe") setSplit(0.5);
  $("canvas").focus();
}

// --- the two sides ---

function showPictures({ keepView = false } = {}) {
  const isOther = Boolean(compared.other);
  for (const input of inputsOf("layer")) {
    const reason = missing(compared, input.value, isOther);
    input.disabled = Boolean(reason);
    input.parentElement.title = reason;
  }
  const layer = missing(compared, wantedLayer, isOther) ? "picture" : wantedLayer;
  inputsOf("layer").find(({ value }) => value === layer).checked = true;
  const before = shown;
  shown = layersOf(compared, {
    layer, isOther, levels, isPixels: chosen("lr") === "pixels", isMatched: chosen("greys") === "matched",
  });
  viewer.show(shown.left, shown.right, { keepView });
  free(before);
  $("tag-left").textContent = shown.left ? shown.left.name : `LR not shown: ${compared.unshown}`;
  $("tag-right").textContent = shown.right.name;
  $("tag-left").hidden = $("tag-right").hidden = false;
  $("view-words").textContent = shown.words;
  const { left } = shown;
  $("canvas").setAttribute("aria-label", `${left ? `${left.name} on the left, ` : ""}${shown.right.name} on the right. ` +
    "Arrow keys move, plus and minus zoom, 0 fits, 1 shows one picture pixel for each screen pixel, Page Up and Page Down change the file.");
  $("wipe").setAttribute("aria-label", `Boundary between ${isOther ? "the other model" : "LR"} on the left and SR on the right`);
  const isSide = chosen("layout") === "side";
  document.querySelector("main").dataset.layout = chosen("layout");
  $("wipe").disabled = !left || isSide;
  for (const input of document.querySelectorAll('input[name="layout"], input[name="lr"], input[name="greys"]')) {
    input.disabled = !left || (input.name !== "layout" && layer === "gradient") || (input.name === "lr" && isOther);
  }
}

function changeView() {
  viewer.setLayout(chosen("layout"));
  if (!compared) return;
  showPictures({ keepView: true });
  profile.refresh();
}

// Large canvases are freed at once: GC timing is unpredictable.
function free(sides) {
  for (const side of [sides?.left, sides?.right]) if (side) side.bitmap.width = 0;
}

function paintOver() {
  const scale = compared.sent && compared.pictures[1].width / compared.sent.width;
  const places = shown.places?.map(({ x, y, value }) => ({
    at: [(x + 0.5) * scale, (y + 0.5) * scale], radius: 6 * scale, label: `${Math.abs(value).toFixed(2)} × limit`,
  }));
  paintOverlays(viewer, { size: pixelSize(), legend: shown.legend, places });
  profile.paint();
}

function setSplit(share) {
  $("wipe").value = Math.round(1000 * share);
  viewer.setSplit(share);
}

function profilePictures() {
  if (!compared) return null;
  const [, sr] = compared.pictures;
  const { sent, other } = compared;
  const isMatched = chosen("greys") === "matched";
  const curves = [{ name: other ? `SR ${compared.rightName}` : "SR", column: "sr", style: "sr", colour: "--sr", picture: sr, scale: 1 }];
  if (other) {
    curves.unshift({
      name: `SR ${compared.otherName}`, column: "sr_other", style: "other", colour: "--other", dash: [5, 3], picture: other, scale: 1,
      greys: isMatched ? other.toRight : null,
    });
  }
  if (sent) {
    curves.unshift({
      name: "LR", column: "lr", style: "lr", colour: "--lr", picture: sent, scale: sr.width / sent.width,
      greys: isMatched ? sr.greys : null,
    });
  }
  const { headers } = compared;
  const size = pixelSize();
  return {
    curves, size, stem: compared.stem, isEntered: !headers.get("x-pixel-size-nm"),
    about: [
      ["file", compared.title], ...(compared.range ? [["greys", compared.range]] : []), ["model", `${compared.rightName} ${headers.get("x-model-version")}`],
      ...(other ? [["other_model", compared.otherName]] : []),
      ["request_id", headers.get("x-request-id")], ["sr_pixel_size_nm", size ? `${size.x},${size.y}` : "unknown"],
    ],
  };
}

export function setLevels({ black, white }) {
  const low = Math.min(254, Math.max(0, Math.round(black)));
  levels = { black: low, white: Math.min(255, Math.max(low + 1, Math.round(white))) };
  $("level-black").value = levels.black;
  $("level-white").value = levels.white;
  drawGreys(compared, levels);
  changed();
  if (compared) showPictures({ keepView: true });
}

// --- the line below the view ---

function showReadout({ zoom, at }) {
  if (at === undefined) changed(); // it was painted
  $("zoom").textContent = zoom === null ? "–" : `${(100 * zoom).toFixed(zoom < 0.1 ? 1 : 0)} %`;
  if (at === undefined) return;
  if (!at || !compared) {
    $("readout").textContent = "–";
    return;
  }
  const [x, y] = at;
  const [left, right] = compared.pictures;
  const { other } = compared;
  const size = pixelSize();
  const of = (picture) => picture.grey[y * picture.width + x];
  const words = [`x ${x}  y ${y}`];
  if (size) words.push(`${lengthWords((x + 0.5) * size.x, true)}, ${lengthWords((y + 0.5) * size.y, true)}`);
  if (left) words.push(`LR ${of(left)}`);
  if (other) words.push(`${compared.otherName} ${of(other)}`);
  words.push(`SR ${of(right)}`);
  const { map } = shown.right;
  if (map) {
    const scale = right.width / map.width;
    const value = map.values[Math.floor(y / scale) * map.width + Math.floor(x / scale)];
    words.push(`${map.unit} ${value < 0 ? "−" : ""}${Math.abs(value).toFixed(map.unit === "residual" ? 2 : 1)}`);
  }
  $("readout").textContent = words.join("  ");
}

// --- the view as a file ---

export async function saveView() {
  if (!compared) return;
  const { headers, title, range, stem, pictures: [, sr], sent } = compared;
  const size = pixelSize();
  const tiles = sent ? `LR ${sent.width}×${sent.height}, ` : "";
  const lines = [
    `${title}: ${range ? `${range}; ` : ""}${tiles}SR ${sr.width}×${sr.height}, ${size ? `SR pixel ${sizeWords(size)}` : "pixel size unknown"}; ` +
      `model ${compared.rightName} ${headers.get("x-model-version")}${compared.other ? `, left ${compared.otherName}` : ""}`,
    `${shown.words ? `${shown.words} ` : ""}Shown from grey ${levels.black} to ${levels.white}, at ${$("zoom").textContent}. ` +
      `Request ${headers.get("x-request-id")}`,
    ...flagLines(headers),
  ];
  const names = [shown.left && shown.left.name, shown.right.name];
  offer(await viewAsPng(viewer, { lines, names }), `${stem}_view.png`);
}

// A saved view says what the panel says: a limit that is exceeded comes first.
function flagLines(headers) {
  const broken = brokenLimits(readQuality(headers.get("x-quality")));
  const flags = headers.get("x-quality");
  return [broken.length ? `Limit exceeded: ${broken.join(", ")}.` : "", flags ? `Flags: ${flags}` : ""].filter(Boolean);
}

// --- state that a link can hold ---

export function viewState() {
  const choices = Object.fromEntries(["layout", "lr", "greys"].map((name) => [name, chosen(name)]));
  return { layer: wantedLayer, ...choices, levels: { ...levels }, split: viewer.split, place: viewer.place, profile: profile.state };
}

// Apply the given parts of a state; the others stay. Split, place and profile need a picture.
export function restoreView({ levels: other, split, place, profile: line, ...choices }) {
  for (const [name, value] of Object.entries(choices)) {
    if (name === "layer") wantedLayer = value;
    // Also where the shown picture has no choice: the next one may.
    inputsOf(name).find((one) => one.value === value).checked = true;
  }
  if (Object.keys(choices).length) changeView();
  if (other) setLevels(other);
  if (place) viewer.goTo(place);
  if (split !== undefined) setSplit(split);
  if (line !== undefined) profile.state = line;
}

// --- controls ---

$("wipe").addEventListener("input", (event) => viewer.setSplit(event.target.value / 1000));
$("zoom-in").addEventListener("click", () => viewer.zoomBy(1.5));
$("zoom-out").addEventListener("click", () => viewer.zoomBy(1 / 1.5));
$("zoom-fit").addEventListener("click", () => viewer.fit());
$("zoom-one").addEventListener("click", () => viewer.zoomTo(1));
$("save-view").addEventListener("click", saveView);
$("level-auto").addEventListener("click", () => compared && setLevels(automaticLevels(compared.histograms[1])));
$("level-reset").addEventListener("click", () => setLevels(WIDE_LEVELS));
for (const id of ["level-black", "level-white"]) {
  $(id).addEventListener("change", () => setLevels({ black: $("level-black").valueAsNumber || 0, white: $("level-white").valueAsNumber || 255 }));
}
for (const input of document.querySelectorAll("#view-tools input")) {
  input.addEventListener("change", () => {
    if (input.name === "layer") wantedLayer = input.value;
    changeView();
  });
}
new ResizeObserver(() => drawGreys(compared, levels)).observe($("histogram"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawGreys(compared, levels));
