// Calls to the service: requests with the key, problems as words, metrics as numbers.

const KEY = "semsr-api-key";

export const apiKey = {
  get: () => sessionStorage.getItem(KEY),
  set: (key) => sessionStorage.setItem(KEY, key),
  forget: () => sessionStorage.removeItem(KEY),
};

// In plain words by the problem's code, else by status; the service's own detail is shown below them.
const WORDS = {
  "queue-full": "The service is full at the moment. Try again shortly.",
  "not-ready": "The service is not ready: it is starting or stopping, or has lost its engine.",
  0: "No answer from the service: it is down or unreachable, or closed the connection (as for far too large files).",
  400: "The service cannot read this picture.",
  401: "The service requires a valid API key.",
  403: "This API key does not allow that.",
  404: "This model is no longer served.",
  406: "The service cannot answer in a type that this page can show.",
  408: "The picture arrived too slowly.",
  413: "The picture is larger than the service allows.",
  415: "Unsupported type of file; expected PNG, TIFF, JPEG, BMP or npy.",
  422: "Unsuitable picture; expected one grey channel of 8 or 16 bit.",
  429: "More requests than your quota allows. Try again shortly.",
  500: "The engine failed on this picture. Report the request id to the operator of the service.",
  502: "A proxy got no answer from the service.",
  503: "The service cannot serve at the moment. Try again shortly.",
  504: "The answer was not ready in time.",
};

export class Problem extends Error {
  constructor({ status, code = "", detail = "", requestId = "", retryAfterMs = null, errors = [] }) {
    super(detail);
    Object.assign(this, { status, code, detail, requestId, retryAfterMs, errors });
    this.words = WORDS[code] ?? WORDS[status] ?? `The service answered with status ${status}.`;
  }

  // Whether a retry can help.
  get isPassing() {
    return [0, 408, 429, 500, 502, 503, 504].includes(this.status);
  }
}

// Send a request; paths are relative, so that the page works behind a proxy's prefix.
export async function ask(path, options = {}) {
  const headers = new Headers(options.headers);
  const key = apiKey.get();
  if (key) headers.set("Authorization", `Bearer ${key}`);
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ status: 0, detail: error.message });
  }
  if (response.ok) return response;
  throw await problemOf(response);
}

async function problemOf(response) {
  let body = {};
  if (response.headers.get("content-type")?.startsWith("application/problem+json")) {
    body = await response.json();
  }
  return new Problem({
    status: response.status,
    code: body.type?.split(":").pop(),
    detail: body.detail ?? response.statusText,
    requestId: body.request_id ?? response.headers.get("x-request-id") ?? "",
    retryAfterMs: body.retry_after_ms ?? null,
    errors: body.errors ?? [], // by field: [{field, detail}, …]
  });
}

// `Server-Timing` to [[stage, milliseconds], …] in the service's order.
export function readTiming(header) {
  return (header ?? "")
    .split(",")
    .map((entry) => /^\s*([\w-]+);dur=([\d.]+)/.exec(entry))
    .filter(Boolean)
    .map(([, stage, ms]) => [stage, Number(ms)]);
}

// `X-Quality` to {name: number}.
export function readQuality(header) {
  const entries = (header ?? "").split(",").map((entry) => entry.trim().split("="));
  return Object.fromEntries(entries.filter(([, text]) => text).map(([k, v]) => [k, Number(v)]));
}

// Prometheus' text format: [{name, labels, value}, …], only of the service's own names.
export function readMetrics(text) {
  const samples = [];
  for (const [, name, labelText, value] of text.matchAll(/^(semsr_\w+)(?:\{(.*)\})? (\S+)/gm)) {
    const labels = {};
    for (const [, key, label] of (labelText ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) {
      labels[key] = label;
    }
    samples.push({ name, labels, value: value === "+Inf" ? Infinity : Number(value) });
  }
  return samples;
}

// Cumulative buckets of a histogram, added up over its other labels: Map(upper bound → count).
export function bucketsOf(samples, name, isWanted = () => true) {
  const buckets = new Map();
  for (const sample of samples) {
    if (sample.name !== `${name}_bucket` || !isWanted(sample.labels)) continue;
    const bound = sample.labels.le === "+Inf" ? Infinity : Number(sample.labels.le);
    buckets.set(bound, (buckets.get(bound) ?? 0) + sample.value);
  }
  return buckets;
}

// A quantile as Prometheus' histogram_quantile has it; null where nothing was counted.
export function quantile(buckets, share) {
  const bounds = [...buckets.keys()].sort((a, b) => a - b);
  const total = buckets.get(Infinity) ?? 0;
  if (!total) return null;
  let lower = 0;
  let below = 0;
  for (const bound of bounds) {
    const count = buckets.get(bound);
    if (count >= share * total) {
      if (bound === Infinity) return lower;
      return count === below ? bound : lower + ((bound - lower) * (share * total - below)) / (count - below);
    }
    [lower, below] = [bound, count];
  }
  return lower;
}
