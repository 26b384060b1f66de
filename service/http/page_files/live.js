// The live figures: /metrics once a second while the tab is visible, never otherwise.

import { drawTrend } from "./charts.js";
import { ask, bucketsOf, quantile, readMetrics } from "./service.js";

const PERIOD_MS = 1000;
const TIMEOUT_MS = 5000;
const KEPT = 120; // seconds of trends
const RATE_OVER = 5; // a rate over fewer seconds jumps with every batch
const MINUTE = 60;
// Without status 401: the page itself sends one request without a key, to learn whether it needs one.
const isRefusal = ({ reason }) => reason !== "unauthorized";
const isWork = ({ route }) => route === "/superresolve" || route === "/v2/models/infer";

const $ = (id) => document.getElementById(id);
const sum = (samples, name, isWanted = () => true) =>
  samples.reduce((total, s) => (s.name === name && isWanted(s.labels) ? total + s.value : total), 0);

export class Live {
  // onModels(): the served models have changed. onState(state, text): ready, waiting, gone.
  // onSamples(samples): /metrics as it is now.
  constructor({ onModels, onSamples, onState }) {
    this.onModels = onModels;
    this.onSamples = onSamples;
    this.onState = onState;
    this.history = [];
    this.latest = null;
    this.models = null;
    this.timer = null;
    document.addEventListener("visibilitychange", () => this.#follow());
    this.#follow();
  }

  // The newest samples of /metrics, or null.
  get samples() {
    return this.latest;
  }

  #follow() {
    clearTimeout(this.timer);
    this.abort?.abort();
    this.abort = null;
    if (document.visibilityState !== "visible") return;
    this.history = []; // a gap would be drawn and counted as if it were a second
    this.#tick();
  }

  async #tick() {
    const abort = new AbortController();
    this.abort = abort;
    const { signal } = abort;
    const startedAt = performance.now();
    const timeout = setTimeout(() => abort.abort(), TIMEOUT_MS);
    try {
      const samples = readMetrics(await (await ask("metrics", { signal })).text());
      const reason = hasEngines(samples) ? "" : await reasonNotReady(signal);
      if (this.abort !== abort) return;
      this.#take(samples);
      this.onState(reason ? "waiting" : "ready", reason || "ready");
    } catch {
      if (this.abort !== abort) return; // the tab was hidden meanwhile
      this.history = [];
      $("live-note").textContent = "no answer";
      $("live").dataset.stale = "true";
      this.onState("gone", "no answer");
    } finally {
      clearTimeout(timeout);
    }
    this.timer = setTimeout(() => this.#tick(), Math.max(0, PERIOD_MS - (performance.now() - startedAt)));
  }

  #take(samples) {
    this.latest = samples;
    this.onSamples(samples);
    const errors = (first) => sum(samples, "semsr_requests_total", (l) => isWork(l) && l.code.startsWith(first) && l.code !== "499");
    const now = {
      atS: performance.now() / 1000,
      tiles: sum(samples, "semsr_tiles_total"),
      queue: sum(samples, "semsr_queue_depth"),
      client: errors("4"),
      server: errors("5"),
      refused: sum(samples, "semsr_rejected_total", isRefusal),
      latency: bucketsOf(samples, "semsr_request_duration_seconds", isWork),
    };
    // Counters that fell: the service was restarted.
    if (this.history.length && now.tiles < this.history.at(-1).tiles) this.history = [];
    const before = this.history.at(-RATE_OVER) ?? this.history[0];
    now.rate = before ? (now.tiles - before.tiles) / (now.atS - before.atS) : null;
    this.history = [...this.history, now].slice(-KEPT);
    this.#show(now, samples);

    const models = samples
      .filter(({ name }) => name === "semsr_model_info")
      .map(({ labels }) => JSON.stringify(labels))
      .sort()
      .join();
    if (models !== this.models) {
      this.models = models;
      this.onModels();
    }
  }

  #show(now, samples) {
    const since = this.history.at(-MINUTE) ?? this.history[0];
    const inMinute = (name) => now[name] - since[name];
    const latency = new Map([...now.latency].map(([le, count]) => [le, count - (since.latency.get(le) ?? 0)]));
    const [p50, p95] = [quantile(latency, 0.5), quantile(latency, 0.95)];
    delete $("live").dataset.stale;
    $("live-note").textContent = "";
    $("live-tiles").textContent = now.rate === null ? "–" : now.rate.toFixed(now.rate < 100 ? 1 : 0);
    $("live-queue").textContent = now.queue;
    $("live-admitted").textContent = sum(samples, "semsr_admitted_tiles");
    $("live-flight").textContent = sum(samples, "semsr_tiles_in_flight");
    $("live-latency").textContent = p50 === null ? "–" : `${milliseconds(p50)} / ${milliseconds(p95)} ms`;
    $("live-errors").textContent = `${inMinute("client")} / ${inMinute("server")}`;
    $("live-refused").textContent = inMinute("refused");
    $("live-since").textContent = `${now.client} / ${now.server}`;
    $("live-errors").classList.toggle("alarm", inMinute("server") > 0);
    $("live-refused").classList.toggle("alarm", inMinute("refused") > 0);
    drawTrend($("trend-tiles"), this.history.map(({ rate }) => rate), KEPT);
    drawTrend($("trend-queue"), this.history.map(({ queue }) => queue), KEPT);
  }
}

// Whether every served model has a working engine.
function hasEngines(samples) {
  const models = samples.filter(({ name }) => name === "semsr_model_info").length;
  return models > 0 && sum(samples, "semsr_engine_up") >= models;
}

// The reason of /readyz; requested only if needed, because a console shows each 503 as an error.
async function reasonNotReady(signal) {
  const response = await fetch("readyz", { signal });
  return response.ok ? "" : ((await response.json()).detail ?? "not ready");
}

function milliseconds(seconds) {
  const ms = seconds * 1000;
  return ms.toFixed(ms < 10 ? 1 : 0);
}
