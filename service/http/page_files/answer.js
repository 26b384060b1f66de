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

// headers: headers of the answer; tookMs: duration for the browser; samples: /metrics, or null.
export function showAnswer(headers, { tookMs, requestShape, samples }) {
  const shape = headers.get("x-tile-shape")?.split(",").reverse().join("×");
  const from = requestShape ? `${requestShape} → ` : "";
  $("answer-facts").textContent =
    `${from}${shape} · ${headers.get("x-model")} ${headers.get("x-model-version")} · ` +
    `${headers.get("x-engine")} ${headers.get("x-precision")}`;
  $("answer-facts").title = `Request id ${headers.get("x-request-id")}`;
  showStages(readTiming(headers.get("server-timing")), tookMs);
  showQuality(readQuality(headers.get("x-quality")), samples);
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

function showQuality(quality, samples) {
  const percent = (share) => `${(100 * share).toFixed(share && share < 0.1 ? 2 : 0)} %`;
  const rows = [
    ["Follows the tile", quality.consistency, (value) => value.toFixed(3), ""],
    ["in its worst spot", quality["consistency-worst"], (value) => value.toFixed(3),
      `1: the SR, seen coarsely, is what was sent.${usual(samples, "semsr_consistency_worst")}`],
    ["Not explained by the SR (limit 1)", quality.residual, (value) => value.toFixed(2),
      quality.residual > 1 ? "Something was lost or invented: look at both pictures." : ""],
    ["Far from the training (limit 1)", quality["domain-distance"], (value) => value.toFixed(2),
      quality["domain-distance"] > 1 ? "The model was not trained on tiles like this one." : ""],
    ["Clipped to black or white", quality.saturated, percent, ""],
    ["Non-finite values", quality["non-finite"], percent, ""],
  ];
  $("quality").replaceChildren(
    ...rows.filter(([, value]) => value !== undefined).map(([name, value, format, words]) => {
      const row = node("div");
      row.append(node("dt", name), node("dd", Number.isFinite(value) ? format(value) : String(value)));
      if (words) row.append(node("dd", words, { class: "words" }));
      return row;
    }),
  );
}

// The median of this service's answers so far, as a baseline; empty for fewer than ten.
function usual(samples, name) {
  const buckets = samples ? bucketsOf(samples, name) : new Map();
  const count = buckets.get(Infinity) ?? 0;
  if (count < 10) return "";
  return ` Median of the ${count} answers so far: ${quantile(buckets, 0.5).toFixed(2)}.`;
}
