// The page as a whole: the source of a picture, its request, and the view of its answer.

import { hideAnswer, node, showAnswer } from "./answer.js";
import { fillCard } from "./card.js";
import { inspect } from "./files.js";
import { Live } from "./live.js";
import { Scans } from "./scans.js";
import { askSecond, describe, offerSecond } from "./second_model.js";
import { Problem, apiKey, ask } from "./service.js";
import { listenForKeys } from "./shortcuts.js";
import * as views from "./views.js";

const $ = (id) => document.getElementById(id);

let source = null; // {blob, name}: the shown picture
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

// pictures: as the worker's `compare` takes them.
function compare(pictures) {
  const id = crypto.getRandomValues(new Uint32Array(1))[0];
  return new Promise((resolve, reject) => {
    waiting.set(id, { resolve, reject });
    worker.postMessage({ id, ...pictures });
  });
}

// --- a picture's way ---

async function look(blob, name) {
  source = { blob, name };
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
    const { type, unshown, mayBeDeep } = await inspect(blob);
    $("window-form").hidden = !mayBeDeep;
    const headers = { "Content-Type": type, Accept: "image/png" };
    if (mayBeDeep && $("window").value.trim()) headers["X-Window"] = $("window").value.trim();
    const model = $("model").value;
    const query = model ? `?model=${encodeURIComponent(model)}` : "";
    const startedAt = performance.now();
    const response = await ask(`superresolve${query}`, { method: "POST", body: blob, headers, signal: mine.signal });
    const sr = await response.blob();
    const tookMs = performance.now() - startedAt;
    const other = await askSecond(blob, headers, mine.signal);
    const described = await Promise.all([response, other].map((one) => describe(one?.headers, mine.signal)));
    $("busy").textContent = "Preparing the pictures…"; // seconds for one of many megapixels
    const result = await compare({
      lr: unshown ? null : blob, sr, other: other?.sr ?? null, trusts: described.map(({ trust }) => trust),
    });
    if (mine.signal.aborted) return;
    offerDownload(sr, name, result);
    const { sent } = result;
    const [{ tile }] = described;
    views.show(result, {
      name, headers: response.headers, otherName: other?.name,
      unshown: unshown || (result.isMisaligned ? "the browser turns or scales it (EXIF)" : ""),
      isTiled: Boolean(tile && sent) && (sent.height > tile[0] || sent.width > tile[1]),
    });
    showAnswer(response.headers, {
      tookMs, samples: live.samples, requestShape: sent && `${sent.width}×${sent.height}`,
      residual: result.pictures[1].residual, onPlace: views.showPlace, other, isOtherSized: result.isOtherSized,
    });
    $("note").textContent = name;
  } catch (error) {
    if (error.name === "AbortError" || mine.signal.aborted) return;
    showProblem(error, enlarge);
  } finally {
    if (request === mine) $("busy").hidden = true;
  }
}

function offerDownload(sr, name, { pictures }) {
  if (downloadUrl) URL.revokeObjectURL(downloadUrl);
  downloadUrl = URL.createObjectURL(sr);
  $("download").href = downloadUrl;
  $("download").download = `${name.replace(/\.[^.]*$/, "")}_sr_${pictures[1].width}x${pictures[1].height}.png`;
  $("download").hidden = false;
}

// --- errors ---

function showProblem(error, retry) {
  const isService = error instanceof Problem;
  $("problem-title").textContent = isService ? error.words : "The page cannot show this picture.";
  const wait = error.retryAfterMs ? ` The service suggests to wait ${error.retryAfterMs} ms.` : "";
  $("problem-detail").textContent = `${error.detail ?? error.message}${wait}`;
  $("problem-id").textContent = error.requestId ? `Status ${error.status}, request id ${error.requestId}` : "";
  again = retry;
  $("problem-again").hidden = !(isService && error.isPassing);
  $("problem").hidden = false;
  if (error.status === 401) askForKey(error.detail);
  views.clear();
  hideAnswer();
  $("download").hidden = true;
  $("note").textContent = source?.name ?? "";
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
  $("model").disabled = $("card-open").disabled = !models.length;
  offerSecond(models);
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

$("file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  event.target.value = ""; // the same file can be chosen again
  if (file) look(file, file.name);
});

for (const button of document.querySelectorAll("[data-sample]")) {
  button.addEventListener("click", async () => {
    const path = button.dataset.sample;
    try {
      const response = await ask(path);
      await look(await response.blob(), path.split("/").pop());
      // The boundary through the defect: half of it as LR, half as SR.
      views.splitAt(Number(button.dataset.defectX));
    } catch (error) {
      showProblem(error, () => button.click());
    }
  });
}

// The whole page takes a dropped file, or the browser would leave it for the file.
for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    $("stage").classList.add("over");
  });
}
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) $("stage").classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("stage").classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (file) look(file, file.name);
});

$("window-form").addEventListener("submit", (event) => {
  event.preventDefault();
  enlarge();
});
$("model").addEventListener("change", enlarge);
$("left-model").addEventListener("change", enlarge);
$("problem-again").addEventListener("click", () => again?.());
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
  if (source && !$("problem").hidden) await enlarge();
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
listenForKeys();
