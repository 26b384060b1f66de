// Pure functions: grey levels along a line, edges in them, and the widths between edges.
// Positions are continuous: pixel i covers [i, i + 1). Lines are {from: [x, y], to: [x, y]} in SR pixels.

const STEP_PX = 0.25; // of the SR: finer than the interpolation is exact
const LEAST_RATIO = 3; // distance of the two levels over their spread; Gaussian noise alone gives 2.6
const LEAST_CONTRAST = 4; // grey levels: less is rounding of a film without structure
const HYSTERESIS = 0.5; // share of the way from the threshold to the nearer level

// Values along a line, averaged over `width` parallel lines one SR pixel apart.
// `scale`: SR pixels per pixel of this picture. NaN where no line is inside the picture.
export function sampleLine(picture, line, { width = 1, scale = 1 } = {}) {
  const { length, step, count } = stepsOf(line);
  const [ux, uy] = length ? [(line.to[0] - line.from[0]) / length, (line.to[1] - line.from[1]) / length] : [1, 0];
  const values = new Float64Array(count);
  for (let i = 0; i < count; i++) {
    let sum = 0;
    let inside = 0;
    for (let k = 0; k < width; k++) {
      const aside = k - (width - 1) / 2;
      const x = line.from[0] + ux * i * step - uy * aside;
      const y = line.from[1] + uy * i * step + ux * aside;
      const value = bilinear(picture, x / scale, y / scale);
      if (Number.isNaN(value)) continue;
      sum += value;
      inside++;
    }
    values[i] = inside ? sum / inside : NaN;
  }
  return { values, step, length };
}

function stepsOf({ from, to }) {
  const length = Math.hypot(to[0] - from[0], to[1] - from[1]);
  const count = Math.max(2, Math.round(length / STEP_PX) + 1);
  return { length, count, step: length / (count - 1) };
}

function bilinear({ width, height, grey }, x, y) {
  if (x < 0 || y < 0 || x > width || y > height) return NaN;
  const u = Math.min(width - 1, Math.max(0, x - 0.5));
  const v = Math.min(height - 1, Math.max(0, y - 0.5));
  const [x0, y0] = [Math.floor(u), Math.floor(v)];
  const [x1, y1] = [Math.min(width - 1, x0 + 1), Math.min(height - 1, y0 + 1)];
  const [fx, fy] = [u - x0, v - y0];
  const above = grey[y0 * width + x0] * (1 - fx) + grey[y0 * width + x1] * fx;
  const below = grey[y1 * width + x0] * (1 - fx) + grey[y1 * width + x1] * fx;
  return above * (1 - fy) + below * fy;
}

// Edges: where the profile crosses `share` of the height between the plateaus at its two sides.
// Returns {edges: [{at, rises, threshold}], reason}; `at` in the units of `step` from the line's
// start; `reason` says why there is none.
export function findEdges({ values, step }, { share = 0.5 } = {}) {
  const known = values.filter((value) => !Number.isNaN(value));
  if (known.length < 5) return { edges: [], reason: "The line is too short." };
  const { low, high, ratio } = twoLevels(known);
  if (high - low < LEAST_CONTRAST) return { edges: [], reason: "The profile has one level." };
  if (ratio < LEAST_RATIO) return { edges: [], reason: "The profile does not have two distinct levels." };
  const threshold = low + share * (high - low);
  const margin = HYSTERESIS * Math.min(share, 1 - share) * (high - low);
  const rough = crossings(values, threshold, margin);
  const edges = rough.map(({ at, rises }, i) => {
    const start = i ? rough[i - 1].at : 0;
    const end = i + 1 < rough.length ? rough[i + 1].at : values.length - 1;
    const before = plateau(values, start, at, !i ? "start" : "middle") ?? (rises ? low : high);
    const after = plateau(values, at, end, i + 1 === rough.length ? "end" : "middle") ?? (rises ? high : low);
    const local = Math.min(before, after) + share * Math.abs(after - before);
    const exact = nearestCrossing(values, local, at, (start + at) / 2, (at + end) / 2, rises);
    return { at: step * (exact ?? at), rises, threshold: local };
  });
  return { edges, reason: edges.length ? "" : "The profile crosses no threshold." };
}

// Two levels by iterated means (Ridler and Calvard 1978), and their distance over their spread.
function twoLevels(values) {
  let threshold = mean(values);
  let [low, high] = [[], []];
  for (let turn = 0; turn < 50; turn++) {
    low = values.filter((value) => value <= threshold);
    high = values.filter((value) => value > threshold);
    if (!high.length) return { low: threshold, high: threshold, ratio: 0 };
    const next = (mean(low) + mean(high)) / 2;
    if (Math.abs(next - threshold) < 1e-6) break;
    threshold = next;
  }
  const contrast = mean(high) - mean(low);
  const spread = (deviation(low) + deviation(high)) / 2;
  return { low: mean(low), high: mean(high), ratio: spread ? contrast / spread : Infinity };
}

// Crossings with hysteresis: noise around the threshold does not count twice.
function crossings(values, threshold, margin) {
  const found = [];
  let side = 0; // -1 below, 1 above
  let last = 0; // last sample that was clearly on `side`
  for (let i = 0; i < values.length; i++) {
    const now = values[i] > threshold + margin ? 1 : values[i] < threshold - margin ? -1 : 0;
    if (!now) continue;
    if (side && now !== side) {
      const between = [];
      for (let k = last; k < i; k++) {
        const at = crossingIn(values, k, threshold);
        if (at !== null) between.push(at);
      }
      if (between.length) found.push({ at: mean([between[0], between[between.length - 1]]), rises: now > 0 });
    }
    side = now;
    last = i;
  }
  return found;
}

function crossingIn(values, k, threshold) {
  const [a, b] = [values[k] - threshold, values[k + 1] - threshold];
  return a < 0 !== b < 0 && !Number.isNaN(a + b) ? k + a / (a - b) : null;
}

function nearestCrossing(values, threshold, around, from, to, rises) {
  let best = null;
  for (let k = Math.max(0, Math.floor(from)); k < Math.min(values.length - 1, Math.ceil(to)); k++) {
    const at = crossingIn(values, k, threshold);
    if (at === null || values[k + 1] > values[k] !== rises) continue;
    if (best === null || Math.abs(at - around) < Math.abs(best - around)) best = at;
  }
  return best;
}

// Median of the middle half between two edges; at an end of the line, of the half away from the edge.
function plateau(values, start, end, side) {
  const [low, high] = { start: [0, 0.5], middle: [0.25, 0.75], end: [0.5, 1] }[side];
  const part = Array.from(values.slice(Math.ceil(start + low * (end - start)), Math.floor(start + high * (end - start)) + 1))
    .filter((value) => !Number.isNaN(value)).sort((a, b) => a - b);
  return part.length >= 3 ? part[part.length >> 1] : null;
}

// Widths between edges: {bright, dark, pitch}, each {mean, sd, count} or null. A pitch is the
// distance between neighbouring edges of one direction.
export function widthsOf(edges) {
  const gaps = edges.slice(1).map((edge, i) => ({ width: edge.at - edges[i].at, rises: edges[i].rises }));
  const pitches = edges.slice(2).map((edge, i) => edge.at - edges[i].at);
  return {
    bright: summary(gaps.filter(({ rises }) => rises).map(({ width }) => width)),
    dark: summary(gaps.filter(({ rises }) => !rises).map(({ width }) => width)),
    pitch: summary(pitches),
  };
}

// Standard deviation of the mean bright and dark width over the parallel lines of the average:
// {bright, dark, lines}; null where fewer than three lines have all edges.
export function spreadAcross(picture, line, edges, { width, scale = 1 }) {
  const length = Math.hypot(line.to[0] - line.from[0], line.to[1] - line.from[1]);
  const [ux, uy] = [(line.to[0] - line.from[0]) / length, (line.to[1] - line.from[1]) / length];
  const each = [];
  for (let k = 0; k < width; k++) {
    const aside = k - (width - 1) / 2;
    const shift = ([x, y]) => [x - uy * aside, y + ux * aside];
    const { values, step } = sampleLine(picture, { from: shift(line.from), to: shift(line.to) }, { scale });
    const own = edges.map(({ at, rises, threshold }, i) => {
      const around = at / step;
      const start = i ? (edges[i - 1].at / step + around) / 2 : 0;
      const end = i + 1 < edges.length ? (edges[i + 1].at / step + around) / 2 : values.length - 1;
      const found = nearestCrossing(values, threshold, around, start, end, rises);
      return found === null ? null : { at: found * step, rises };
    });
    if (own.every(Boolean)) each.push(widthsOf(own));
  }
  if (each.length < 3) return null;
  const sd = (kind) => (each[0][kind] ? summary(each.map((one) => one[kind].mean)).sd : null);
  return { bright: sd("bright"), dark: sd("dark"), lines: each.length };
}

function mean(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function deviation(values) {
  const centre = mean(values);
  return Math.sqrt(mean(values.map((value) => (value - centre) ** 2)));
}

function summary(values) {
  if (!values.length) return null;
  const count = values.length;
  const sd = count > 1 ? deviation(values) * Math.sqrt(count / (count - 1)) : null;
  return { mean: mean(values), sd, count };
}

// The profile as CSV: comment lines with its origin, then one row a position.
// facts: [[name, value], …]; curves: [{name, values}, …] of the same step.
export function profileCsv({ facts, step, unitPerPx, unit, curves }) {
  const clean = (text) => String(text).replace(/[\r\n]+/g, " ");
  const lines = ["# semsr-profile 1", ...facts.map(([name, value]) => `# ${name}: ${clean(value)}`)];
  lines.push(["position_px", ...(unit === "nm" ? ["position_nm"] : []), ...curves.map(({ name }) => `${name}_grey`)].join(","));
  for (let i = 0; i < curves[0].values.length; i++) {
    const at = i * step;
    const greys = curves.map(({ values }) => (Number.isNaN(values[i]) ? "" : values[i].toFixed(2)));
    lines.push([at.toFixed(3), ...(unit === "nm" ? [(at * unitPerPx).toFixed(3)] : []), ...greys].join(","));
  }
  return `${lines.join("\n")}\n`;
}
