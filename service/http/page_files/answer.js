// The panel with the origin of an answer and the meaning of its flags.

import { bucketsOf, quantile, readQuality, readTiming } from "./service.js";

const $ = (id) => document.getElementById(id);
const STAGES = {
  recv: "receive", decode: "decode", queue: "wait", infer: "model", encode: "encode", rest: "rest",
};

// A node with text, never HTML: names and details come from files and the service.
export function node(tag, text = "", attributes = {}) {
  const element = document.createElement(tag);
  element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

// headers: headers of the answer; tookMs: duration for the browser; samples: /metrics, or null;
// residual: {scores, places} computed by the page, or null; onPlace(place): shows a place;
// other: answer of a second model, or null.
export function showAnswer(headers, { tookMs, requestShape, samples, residual, onPlace, other, isOtherSized }) {
  const shape = headers.get("x-tile-shape")?.split(",").reverse().join("×");
  const from = requestShape ? `${requestShape} → ` : "";
  $("answer-facts").textContent =
    `${from}${shape} · ${headers.get("x-model")} ${headers.get("x-model-version")} · ` +
    `${headers.get("x-engine")} ${headers.get("x-precision")}`;
  $("answer-facts").title = `Request id ${headers.get("x-request-id")}`;
  showStages(readTiming(headers.get("server-timing")), tookMs);
  const quality = readQuality(headers.get("x-quality"));
  showVerdict(quality, residual?.places[0], onPlace);
  showQuality(quality, other?.headers ? readQuality(other.headers.get("x-quality")) : null, samples);
  showSecond(other, isOtherSized);
  $("answer-empty").hidden = true;
  $("answer").hidden = false;
}

export function hideAnswer() {
  $("answer").hidden = true;
  $("answer-empty").hidden = false;
}

function showStages(timing, tookMs) {
  const stages = timing.filter(([stage]) => stage !== "total");
  const total = timing.find(([stage]) => stage === "total")?.[1] ?? 0;
  stages.push(["rest", Math.max(0, total - stages.reduce((all, [, ms]) => all + ms, 0))]);
  const bar = node("div", "", { class: "bar-chart", "aria-hidden": "true" });
  const list = node("dl");
  for (const [stage, ms] of stages) {
    const part = node("span", "", { class: `stage-${stage}` });
    part.style.flexGrow = ms;
    bar.append(part);
    const row = node("div");
    row.append(node("dt", STAGES[stage] ?? stage, { class: `stage-${stage}` }), node("dd", ms.toFixed(1)));
    list.append(row);
  }
  const sum = node("p", "", { class: "total" });
  sum.append(
    node("b", `${total.toFixed(0)} ms`), node("span", " in the service, "),
    node("b", `${tookMs.toFixed(0)} ms`), node("span", " here"),
  );
  $("stages").replaceChildren(sum, bar, list);
}

const BROKEN = {
  residual: "Something was lost or invented: look at both pictures.",
  "domain-distance": "The model was not trained on tiles like this one: do not rely on details of the SR.",
};
const LIMITED = Object.keys(BROKEN);

// Names of the flags that exceed their limit.
export function brokenLimits(quality) {
  return LIMITED.filter((name) => quality[name] > 1);
}

// What an operator must see first: whether a limit is exceeded, and where.
function showVerdict(quality, place, onPlace) {
  const judged = LIMITED.filter((name) => quality[name] !== undefined);
  const broken = brokenLimits(quality);
  const verdict = $("verdict");
  verdict.className = `verdict ${broken.length ? "broken" : judged.length ? "kept" : ""}`;
  const title = broken.length
    ? `${broken.length === 1 ? "A limit is" : `${broken.length} limits are`} exceeded`
    : judged.length ? "Within the limits" : "Not judged: the answer carries no flag with a limit";
  verdict.replaceChildren(node("strong", title), ...broken.map((name) => node("p", BROKEN[name])));
  if (!place) return;
  const button = node("button", broken.includes("residual") ? "Show where" : "Strongest place", {
    type: "button", class: "place", title: `LR pixel ${place.x}, ${place.y}: ${Math.abs(place.value).toFixed(2)} of the limit, computed by the page`,
  });
  button.addEventListener("click", () => onPlace(place));
  verdict.append(button);
}

function showQuality(quality, other, samples) {
  const percent = (share) => `${(100 * share).toFixed(share && share < 0.1 ? 2 : 0)} %`;
  const digits = (count) => (value) => value.toFixed(count);
  const rows = [
    ["residual", "Not explained by the SR", digits(2), ""],
    ["domain-distance", "Far from the training", digits(2), ""],
    ["consistency", "Follows the tile", digits(3), ""],
    ["consistency-worst", "in its worst spot", digits(3),
      `1: the SR, seen coarsely, is what was sent.${usual(samples, "semsr_consistency_worst")}`],
    ["saturated", "Clipped to black or white", percent, ""], // an answer with non-finite values is withheld
  ];
  $("quality").replaceChildren(
    ...rows.filter(([key]) => quality[key] !== undefined).map(([key, name, format, words]) => {
      const row = node("div");
      const isLimited = LIMITED.includes(key);
      const isBroken = isLimited && quality[key] > 1;
      const text = (value) => (Number.isFinite(value) ? format(value) : String(value));
      row.append(node("dt", name));
      if (isLimited) row.append(gauge(quality[key]));
      row.append(node("dd", `${text(quality[key])}${isLimited ? " / 1" : ""}`));
      if (isBroken) {
        row.className = "broken";
        row.append(node("dd", "over the limit of 1", { class: "over" }));
      }
      if (other?.[key] !== undefined) {
        const isOver = isLimited && other[key] > 1;
        const words = `left model: ${text(other[key])}${isOver ? ", over the limit of 1" : ""}`;
        row.append(node("dd", words, { class: isOver ? "words left-over" : "words" }));
      }
      if (words) row.append(node("dd", words, { class: "words" }));
      return row;
    }),
  );
}

// A bar from 0 to twice the limit, with a mark at the limit; the numbers next to it say the same.
function gauge(value) {
  const cell = node("dd", "", { class: "gauge", "aria-hidden": "true" });
  const fill = node("span");
  fill.style.width = `${Math.min(100, 50 * value)}%`;
  cell.append(fill);
  return cell;
}

function showSecond(other, isOtherSized) {
  const words = other?.problem
    ? `Left model ${other.name}: ${other.problem.words ?? ""} ${other.problem.detail ?? other.problem.message}`
    : isOtherSized ? `Left model ${other.name}: its SR has another size, so that it cannot be compared.` : "";
  $("second-words").textContent = words;
  $("second-words").hidden = !words;
}

// The median of this service's answers so far, as a baseline; empty for fewer than ten.
function usual(samples, name) {
  const buckets = samples ? bucketsOf(samples, name) : new Map();
  const count = buckets.get(Infinity) ?? 0;
  if (count < 10) return "";
  return ` Median of the ${count} answers so far: ${quantile(buckets, 0.5).toFixed(2)}.`;
}
