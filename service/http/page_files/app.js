// The page as a whole: the source of a picture, its requests, and the view of their answers.

import { hideAnswer, showAnswer } from "./answer.js";
import { compare } from "./comparer.js";
import { listenForFiles } from "./file_drop.js";
import { inspect } from "./files.js";
import { Live } from "./live.js";
import { askForKey, listModels, listenForModels } from "./models.js";
import { decode, stemOf, titleOf } from "./picture.js";
import { PictureList } from "./picture_list.js";
import { Scans } from "./scans.js";
import { askSecond, describe } from "./second_model.js";
import { Problem, ask } from "./service.js";
import { listenForKeys } from "./shortcuts.js";
import { changed, isUnknown } from "./view_link.js";
import { nameOf, registerView } from "./view_state.js";
import * as views from "./views.js";

const $ = (id) => document.getElementById(id);

const settings = () => ({ model: $("model").value, window: $("window").value.trim() });

let source = null; // the shown picture: an entry of the list, or one like it
let request = null; // AbortController of the request in flight
let again = null; // what "Try again" does
let downloadUrl = null;
let decoded = { answer: null, seen: null }; // what the service decoded, for the shown answer

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
  const { signal } = mine;
  const picture = source;
  hideProblem();
  $("hint").hidden = true;
  $("busy").textContent = "Waiting for the service…";
  $("busy").hidden = false;
  try {
    const { unshown, mayBeDeep } = await inspect(picture.blob, picture.name);
    $("window-form").hidden = !mayBeDeep;
    const answer = await list.answerOf(picture);
    if (!answer || signal.aborted) return;
    // What the browser cannot show, the service has decoded.
    const decodeOnce = async () => {
      if (decoded.answer !== answer) {
        decoded = { answer, seen: answer.seen ?? await decode(picture, settings(), { signal }) };
      }
      return decoded.seen;
    };
    let seen = unshown ? await decodeOnce() : null;
    const other = await askSecond(picture, settings(), { signal, seen });
    const described = await Promise.all([answer, other].map((one) => describe(one?.headers, signal)));
    $("busy").textContent = "Preparing the pictures…"; // seconds for one of many megapixels
    const pictures = { sr: answer.sr, other: other?.sr ?? null, trusts: described.map(({ trust }) => trust) };
    let result = await compare({ lr: seen?.blob ?? picture.blob, ...pictures });
    if (result.isMisaligned) {
      // The browser turns or scales it (EXIF), the service never does.
      seen = await decodeOnce();
      result = await compare({ lr: seen.blob, ...pictures });
    }
    if (signal.aborted) return;
    showResult(picture, { answer, other, seen, result, tile: described[0].tile });
  } catch (error) {
    if (error.name === "AbortError" || signal.aborted) return;
    showProblem(error, retry);
  } finally {
    if (request === mine) $("busy").hidden = true;
  }
}

function showResult(picture, { answer, other, seen, result, tile }) {
  const { sr, headers, tookMs } = answer;
  const { sent, pictures: [, { width, height, residual }], isOtherSized } = result;
  const title = titleOf(picture);
  const range = seen?.isDeep ? `grey levels ${seen.range.join("–")} in the file, shown ${seen.window.join("–")}` : "";
  offerDownload(sr, `${stemOf(picture)}_sr_${width}x${height}.png`);
  views.show(result, {
    name: picture.name, title, range, stem: stemOf(picture), headers, otherName: other?.name,
    isListed: list.isShown && list.entries.includes(picture), unshown: result.isMisaligned ? "its size does not fit the SR" : "",
    isTiled: Boolean(tile && sent) && (sent.height > tile[0] || sent.width > tile[1]),
  });
  showAnswer(headers, {
    tookMs, samples: live.samples, requestShape: sent && `${sent.width}×${sent.height}`,
    residual, onPlace: views.showPlace, other, isOtherSized,
  });
  $("note").textContent = [title, range].filter(Boolean).join(" · ");
  view.shown();
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

// Another second model: the answer of the first holds.
async function changeSecond() {
  changed();
  await enlarge();
}

function offerDownload(sr, name) {
  if (downloadUrl) URL.revokeObjectURL(downloadUrl);
  downloadUrl = URL.createObjectURL(sr);
  $("download").href = downloadUrl;
  $("download").download = name;
  $("download").hidden = false;
}

// --- no picture ---

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

function hideProblem() {
  $("problem").hidden = true;
}

function clearView() {
  views.clear();
  hideAnswer();
  decoded = { answer: null, seen: null };
  $("download").hidden = true;
  $("note").textContent = source ? titleOf(source) : "";
}

function closePicture() {
  request?.abort();
  source = null;
  hideProblem();
  clearView();
  $("hint").hidden = false;
  changed();
}

// --- the service ---

async function refreshModels() {
  if (await listModels()) view.modelsListed();
}

const scans = new Scans();
const live = new Live({
  onModels: refreshModels,
  onSamples: (samples) => scans.follow(samples),
  onState(state, text) {
    if ($("state").dataset.state === state && $("state").textContent === text) return;
    $("state").dataset.state = state;
    $("state").textContent = text;
  },
});

// --- user actions ---

listenForFiles((found) => list.take(found));
listenForKeys();
listenForModels({
  onProblem: showProblem,
  async onKey() {
    await refreshModels();
    list.resume();
    if (source && !$("problem").hidden) await retry();
  },
});

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
    views.splitAt(Number(button.dataset.defectX));
  });
}

$("window-form").addEventListener("submit", (event) => {
  event.preventDefault();
  changeSettings();
});
$("model").addEventListener("change", changeSettings);
$("left-model").addEventListener("change", changeSecond);
$("problem-again").addEventListener("click", () => again?.());

// --- the link ---

const view = registerView({
  sample: () => source?.sample ?? "", onSample: openSample, onSettings: changeSettings, onSecond: changeSecond,
});
if (isUnknown()) $("hint").prepend("This link is damaged or of another version of the page, and was not opened. ");
