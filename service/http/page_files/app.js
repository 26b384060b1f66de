// The page as a whole: the source of a picture, its request, and the view of its answer.

import { hideAnswer, node, showAnswer } from "./answer.js";
import { fillCard } from "./card.js";
import { drawHistogram } from "./charts.js";
import { listenForFiles } from "./file_drop.js";
import { inspect } from "./files.js";
import { Live } from "./live.js";
import { PictureList } from "./picture_list.js";
import { decode } from "./picture.js";
import { Scans } from "./scans.js";
import { Problem, apiKey, ask } from "./service.js";
import { changed, isUnknown } from "./view_link.js";
import { nameOf, registerView } from "./view_state.js";
import { Viewer } from "./viewer.js";

const $ = (id) => document.getElementById(id);
const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`).value;

const settings = () => ({ model: $("model").value, window: $("window").value.trim() });

let source = null; // the shown picture: an entry of the list, or one like it
let compared = null; // the worker's answer about it
let request = null; // AbortController of the request in flight
let again = null; // what "Try again" does
let downloadUrl = null;

// --- the worker ---

const worker = new Worker(new URL("page/worker.js", document.baseURI), { type: "module" });
const waiting = new Map();
worker.addEventListener("message", ({ data }) => {
  const { resolve, reject } = waiting.get(data.id);
  waiting.delete(data.id);
  if (data.error) reject(new Error(data.error));
  else resolve(data);
});
worker.addEventListener("error", (event) => {
  for (const { reject } of waiting.values()) reject(new Error(event.message ?? "the worker could not start"));
  waiting.clear();
});

function compare(lr, sr) {
  const id = crypto.getRandomValues(new Uint32Array(1))[0];
  return new Promise((resolve, reject) => {
    waiting.set(id, { resolve, reject });
    worker.postMessage({ id, lr, sr });
  });
}

// --- a picture's way ---

const list = new PictureList({ settings, onSelect: look, onEmpty: closePicture });

async function look(picture) {
  if (source && source !== picture && !list.entries.includes(source)) list.forget(source);
  source = picture;
  await enlarge();
}

async function enlarge() {
  if (!source) return;
  request?.abort();
  const mine = (request = new AbortController());
  const { blob, name } = source;
  hideProblem();
  $("hint").hidden = true;
  $("busy").textContent = "Waiting for the service…";
  $("busy").hidden = false;
  try {
    const { unshown, mayBeDeep } = await inspect(blob, name);
    $("window-form").hidden = !mayBeDeep;
    const answer = await list.answerOf(source);
    if (!answer || mine.signal.aborted) return;
    const { sr, headers, tookMs } = answer;
    // What the browser cannot show, the service has decoded.
    let seen = unshown ? answer.seen ?? await decode(source, settings(), { signal: mine.signal }) : null;
    $("busy").textContent = "Preparing the pictures…"; // seconds for one of many megapixels
    let result = await compare(seen?.blob ?? blob, sr);
    if (result.isMisaligned) {
      // The browser turns or scales it (EXIF), the service never does.
      seen = await decode(source, settings(), { signal: mine.signal });
      result = await compare(seen.blob, sr);
    }
    if (mine.signal.aborted) return;
    const before = compared;
    compared = result;
    offerDownload(sr, name, result);
    const { sent } = result;
    showAnswer(headers, {
      tookMs, samples: live.samples, requestShape: sent && `${sent.width}×${sent.height}`,
    });
    result.unshown = result.isMisaligned ? "its size does not fit the SR" : "";
    showPictures();
    release(before);
    showGreys();
    const range = seen?.isDeep ? ` · grey levels ${seen.range.join("–")} in the file, shown ${seen.window.join("–")}` : "";
    $("note").textContent = `${name}${source.page === null ? "" : ` · page ${source.page + 1}`}${range}`;
    document.body.dataset.shown = "true";
    view.shown();
  } catch (error) {
    if (error.name === "AbortError" || mine.signal.aborted) return;
    showProblem(error, retry);
  } finally {
    if (request === mine) $("busy").hidden = true;
  }
}

async function retry() {
  if (source) list.forget(source);
  await enlarge();
}

// Another model or window: no answer so far holds.
async function changeSettings() {
  list.forgetAnswers();
  changed();
  await retry();
}

// Free a comparison's pictures at once: they are large, and GC timing is unpredictable.
function release(old) {
  for (const one of old ? [...old.pictures, old.sent] : []) {
    one?.bitmap.close();
    one?.gradientBitmap?.close();
    one?.matchedBitmap?.close();
  }
}

function offerDownload(sr, name, { pictures }) {
  if (downloadUrl) URL.revokeObjectURL(downloadUrl);
  downloadUrl = URL.createObjectURL(sr);
  $("download").href = downloadUrl;
  $("download").download = `${name.replace(/\.[^.]*$/, "")}_sr_${pictures[1].width}x${pictures[1].height}.png`;
  $("download").hidden = false;
}

// --- the view of its answer ---

const viewer = new Viewer($("canvas"), { onChange: showReadout, onSplit: setSplit });

function showPictures({ keepView = false } = {}) {
  const [left, right] = compared.pictures;
  const isGradient = chosen("layer") === "gradient";
  const isPixels = chosen("lr") === "pixels";
  const isMatched = chosen("greys") === "matched";
  const of = (picture) => picture && {
    width: picture.width, height: picture.height, bitmap: isGradient ? picture.gradientBitmap : picture.bitmap,
  };
  const shownLeft = of(left);
  if (shownLeft && !isGradient) {
    const from = isPixels ? compared.sent : left;
    shownLeft.bitmap = isMatched ? from.matchedBitmap : from.bitmap;
  }
  viewer.show(shownLeft, of(right), { keepView });
  const unit = isGradient ? `, white: ${compared.white.toFixed(0)} grey levels / px` : "";
  const lrPicture = `${isPixels ? "LR pixels" : "LR bicubic"}${isMatched ? ", greys matched" : ""}`;
  const lrName = isGradient ? "LR bicubic, gradient" : lrPicture;
  $("tag-left").textContent = left ? lrName : `LR not shown: ${compared.unshown}`;
  $("tag-right").textContent = isGradient ? `SR gradient${unit}` : "SR";
  $("tag-left").hidden = $("tag-right").hidden = false;
  $("wipe").disabled = !left || chosen("layout") === "side";
  document.querySelectorAll('input[name="layout"], input[name="lr"], input[name="greys"]').forEach((input) => {
    input.disabled = !left || (input.name !== "layout" && isGradient);
  });
}

function showGreys() {
  const [left, right] = compared.histograms;
  drawHistogram($("histogram"), left, right);
  const words = [["LR as sent", left], ["SR", right]].filter(([, one]) => one)
    .map(([name, one]) => `${name} mean ${one.mean.toFixed(1)}, standard deviation ${one.sd.toFixed(1)}`);
  $("histogram").setAttribute("aria-label", `Histogram: ${words.join("; ")}`);
  const rows = [["LR", "lr", left, compared.pictures[0]], ["SR", "sr", right, compared.pictures[1]]];
  $("statistics").tBodies[0].replaceChildren(...rows.filter(([, , one]) => one).map(([name, style, one, picture]) => {
    const row = node("tr");
    row.append(
      node("th", name, { scope: "row", class: style }), node("td", one.mean.toFixed(1)), node("td", one.sd.toFixed(1)),
      node("td", `${one.min}–${one.max}`), node("td", picture.meanGradient.toFixed(2)),
    );
    return row;
  }));
  $("statistics").hidden = false;
}

function showReadout({ zoom, at }) {
  if (at === undefined) changed(); // it was painted
  $("zoom").textContent = zoom === null ? "–" : `${(100 * zoom).toFixed(zoom < 0.1 ? 1 : 0)} %`;
  if (at === undefined) return;
  if (!at || !compared) {
    $("readout").textContent = "–";
    return;
  }
  const [x, y] = at;
  const isGradient = chosen("layer") === "gradient";
  const value = (picture) => {
    const i = y * picture.width + x;
    return isGradient ? picture.gradient[i].toFixed(1) : picture.grey[i];
  };
  const [left, right] = compared.pictures;
  const lr = left ? `LR ${value(left)}  ` : "";
  $("readout").textContent = `x ${x}  y ${y}  ${lr}SR ${value(right)}`;
}

function setSplit(share) {
  $("wipe").value = Math.round(1000 * share);
  viewer.setSplit(share);
  changed();
}

function showProblem(error, retry) {
  const isService = error instanceof Problem;
  $("problem-title").textContent = error.words ?? "The page cannot show this picture.";
  const wait = error.retryAfterMs ? ` The service suggests to wait ${error.retryAfterMs} ms.` : "";
  $("problem-detail").textContent = `${error.detail ?? error.message}${wait}`;
  $("problem-id").textContent = error.requestId ? `Status ${error.status}, request id ${error.requestId}` : "";
  again = retry;
  $("problem-again").hidden = !(isService && error.isPassing);
  $("problem").hidden = false;
  if (error.status === 401) askForKey(error.detail);
  clearView();
}

function clearView() {
  viewer.clear();
  release(compared);
  compared = null;
  hideAnswer();
  drawHistogram($("histogram"), null, null);
  $("tag-left").hidden = $("tag-right").hidden = $("download").hidden = $("statistics").hidden = true;
  $("note").textContent = source?.name ?? "";
  delete document.body.dataset.shown;
}

function closePicture() {
  request?.abort();
  source = null;
  hideProblem();
  clearView();
  $("hint").hidden = false;
  changed();
}

function hideProblem() {
  $("problem").hidden = true;
}

// --- the service: state, key, models ---

function askForKey(refusal) {
  // A missing key is not an error yet; a refused one is shown with its reason.
  $("key-words").textContent = apiKey.get() ? `The service does not take this key: ${refusal}.` : "This service wants an API key.";
  $("key-form").hidden = false;
  $("key-forget").hidden = true;
  $("key").focus();
}

async function listModels() {
  let models;
  try {
    models = await (await ask("v2/repository/index", { method: "POST" })).json();
  } catch (error) {
    if (error.status === 401) askForKey(error.detail);
    return;
  }
  $("key-forget").hidden = !apiKey.get();
  const before = $("model").value;
  $("model").replaceChildren(...models.map(({ name, state, reason }) => {
    const option = node("option", state === "READY" ? name : `${name} (${reason})`, { value: name });
    option.disabled = state !== "READY";
    return option;
  }));
  if (models.some(({ name, state }) => name === before && state === "READY")) $("model").value = before;
  if (view.modelsListed()) changeSettings();
  $("model").disabled = $("card-open").disabled = !models.length;
}

const scans = new Scans();
const live = new Live({
  onModels: listModels,
  onSamples: (samples) => scans.follow(samples),
  onState(state, text) {
    if ($("state").dataset.state === state && $("state").textContent === text) return;
    $("state").dataset.state = state;
    $("state").textContent = text;
  },
});

// --- user actions ---

listenForFiles((found) => list.take(found));

async function openSample(button) {
  const path = button.dataset.sample;
  try {
    const response = await ask(path);
    const sample = list.newEntry(await response.blob(), path.split("/").pop());
    sample.sample = nameOf(path);
    list.select(null);
    await look(sample);
  } catch (error) {
    showProblem(error, () => button.click());
  }
}

for (const button of document.querySelectorAll("[data-sample]")) {
  button.addEventListener("click", async () => {
    await openSample(button);
    // The boundary through the defect: half of it as LR, half as SR.
    if (compared) setSplit(viewer.shareAt(Number(button.dataset.defectX)));
  });
}

$("window-form").addEventListener("submit", (event) => {
  event.preventDefault();
  changeSettings();
});
$("model").addEventListener("change", changeSettings);
$("problem-again").addEventListener("click", () => again?.());
$("wipe").addEventListener("input", (event) => setSplit(event.target.value / 1000));
$("zoom-in").addEventListener("click", () => viewer.zoomBy(1.5));
$("zoom-out").addEventListener("click", () => viewer.zoomBy(1 / 1.5));
$("zoom-fit").addEventListener("click", () => viewer.fit());
$("zoom-one").addEventListener("click", () => viewer.zoomTo(1));
for (const input of document.querySelectorAll("#view-tools input")) {
  input.addEventListener("change", changeView);
}

function changeView() {
  viewer.setLayout(chosen("layout"));
  if (compared) showPictures({ keepView: true });
  changed();
}

$("key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const key = $("key").value.trim();
  $("key").value = "";
  if (!/^[\x21-\x7e]+$/.test(key)) {
    $("key-words").textContent = "An API key holds no spaces and no special letters.";
    return;
  }
  apiKey.set(key);
  $("key-form").hidden = true;
  await listModels();
  list.resume();
  if (source && !$("problem").hidden) await retry();
});
$("key-forget").addEventListener("click", () => {
  apiKey.forget();
  askForKey();
});

$("card-open").addEventListener("click", async () => {
  try {
    fillCard(await (await ask(`model?model=${encodeURIComponent($("model").value)}`)).json());
    $("card").showModal();
  } catch (error) {
    showProblem(error, () => $("card-open").click());
  }
});
$("card-close").addEventListener("click", () => $("card").close());

const redraw = () => drawHistogram($("histogram"), ...(compared?.histograms ?? [null, null]));
new ResizeObserver(redraw).observe($("histogram"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

// --- the link ---

const view = registerView({
  viewer, sample: () => source?.sample ?? "", onSample: openSample, onView: changeView, onSettings: changeSettings,
});
if (isUnknown()) $("hint").prepend("This link is damaged or of another version of the page, and was not opened. ");
