// Pure functions: where an answer differs from a picture, and where it does not explain its tile.
// Pictures are {width, height, grey: Uint8Array}; maps are Float32Array, row by row.

// export/residual.py, which the graph's flag `residual` comes from; names and values are the same.
const WHITE = 255;
const PRIOR_VARIANCE = (2 / WHITE) ** 2;
const SURROUND_BLOCKS = 15;
const BLOCK_WINDOWS = [3, 5];
const PIXEL_WINDOW = 3;
const MEAN_PER_SIGMA = Math.sqrt(2 / Math.PI);
const MIN_SPREAD = 0.25;

// Right minus left at the same size; `greys` are applied to the left.
export function difference(right, left, { gain, offset }) {
  const shown = Float32Array.from({ length: 256 }, (_, level) => level * gain + offset);
  return Float32Array.from(right.grey, (level, i) => level - shown[left.grey[i]]);
}

// The answer averaged to the tile's pixels, minus the tile: where the answer contradicts what was
// measured. `greys` are applied to the tile.
export function contradiction(sent, sr, { gain, offset }) {
  const seen = areaMeans(sr, sr.width / sent.width);
  return seen.map((mean, i) => mean - (sent.grey[i] * gain + offset));
}

// Means of the blocks of scale x scale pixels.
export function areaMeans({ width, height, grey }, scale) {
  const [w, h] = [width / scale, height / scale];
  const means = new Float32Array(w * h);
  for (let y = 0; y < height; y++) {
    const row = Math.floor(y / scale) * w;
    for (let x = 0; x < w; x++) {
      let sum = 0;
      for (let k = 0; k < scale; k++) sum += grey[y * width + x * scale + k];
      means[row + x] += sum;
    }
  }
  return means.map((sum) => sum / (scale * scale));
}

// Score of each LR pixel: strongest window mean of the residual there, with its sign (positive: the
// tile is brighter than its answer explains), in standard deviations. The largest is the flag's.
export function residualScores(sent, sr, noise) {
  const { width, height } = sent;
  const residual = explain(sent, areaMeans(sr, sr.width / width), noise);
  const scores = excess(residual, width, height, PIXEL_WINDOW, PIXEL_WINDOW);
  const [w, h] = [width >> 1, height >> 1];
  let blocks = pairMeans(residual, width, w, h);
  const surround = boxMeans(blocks, w, h, SURROUND_BLOCKS);
  blocks = blocks.map((value, i) => value - surround[i]);
  for (const window of BLOCK_WINDOWS) {
    const coarse = excess(blocks, w, h, window, 2 * window);
    for (let y = 0; y < 2 * h; y++) {
      for (let x = 0; x < 2 * w; x++) {
        const score = coarse[(y >> 1) * w + (x >> 1)];
        if (Math.abs(score) > Math.abs(scores[y * width + x])) scores[y * width + x] = score;
      }
    }
  }
  return scores;
}

// Tile minus the tile that the answer predicts, in standard deviations of the noise model.
function explain(sent, seen, { base, slope }) {
  const lr = Float64Array.from(sent.grey, (level) => level / WHITE);
  const fineMeans = Float64Array.from(seen, (level) => level / WHITE);
  const smooth = boxMeans(fineMeans, sent.width, sent.height, 3);
  const [level, levelLr, levelSeen] = [smooth, lr, fineMeans].map(meanOf);
  let [cc, ff, cf, ct, ft] = [0, 0, 0, 0, 0];
  for (let i = 0; i < lr.length; i++) {
    const coarse = smooth[i] - level;
    const fine = fineMeans[i] - levelSeen - coarse;
    const target = lr[i] - levelLr;
    cc += coarse * coarse;
    ff += fine * fine;
    cf += coarse * fine;
    ct += coarse * target;
    ft += fine * target;
  }
  [cc, ff, ct, ft] = [cc, ff, ct, ft].map((sum) => sum / lr.length + PRIOR_VARIANCE);
  cf /= lr.length;
  const determinant = cc * ff - cf * cf;
  const gain = (ct * ff - ft * cf) / determinant;
  const sharpness = (ft * cc - ct * cf) / determinant;
  return Float32Array.from(lr, (value, i) => {
    const coarse = smooth[i] - level;
    const expected = levelLr + gain * coarse + sharpness * (fineMeans[i] - levelSeen - coarse);
    const variance = base / WHITE ** 2 + (slope / WHITE) * Math.min(1, Math.max(0, expected));
    return (value - expected) / Math.sqrt(variance);
  });
}

function excess(values, width, height, window, sidePx) {
  const means = boxMeans(values, width, height, window, { isPadCounted: true });
  const spread = meanOf(means.map(Math.abs)) / MEAN_PER_SIGMA;
  return means.map((value) => value / Math.max(spread, MIN_SPREAD / sidePx));
}

function meanOf(values) {
  let sum = 0;
  for (const value of values) sum += value;
  return sum / values.length;
}

function pairMeans(values, width, w, h) {
  return Float32Array.from({ length: w * h }, (_, i) => {
    const at = 2 * Math.floor(i / w) * width + 2 * (i % w);
    return (values[at] + values[at + 1] + values[at + width] + values[at + width + 1]) / 4;
  });
}

// Means over window x window; beyond the border nothing, or zeros that count.
function boxMeans(values, width, height, window, { isPadCounted = false } = {}) {
  const along = (source, count, length, step, next) => {
    const out = new Float64Array(source.length);
    const reach = window >> 1;
    for (let line = 0; line < count; line++) {
      const start = line * next;
      let sum = 0;
      for (let i = 0; i < Math.min(reach, length); i++) sum += source[start + i * step];
      for (let i = 0; i < length; i++) {
        if (i + reach < length) sum += source[start + (i + reach) * step];
        if (i - reach > 0) sum -= source[start + (i - reach - 1) * step];
        const inside = Math.min(length - 1, i + reach) - Math.max(0, i - reach) + 1;
        out[start + i * step] = sum / (isPadCounted ? window : inside);
      }
    }
    return out;
  };
  return Float32Array.from(along(along(values, height, width, 1, width), width, height, width, 1));
}

// The strongest places of a map: [{x, y, value}], strongest first, at least `apart` pixels from each
// other and no weaker than half of the first.
export function strongest(values, width, { count = 3, apart = 12 } = {}) {
  let largest = 0;
  for (const value of values) largest = Math.max(largest, Math.abs(value));
  const order = [];
  values.forEach((value, i) => Math.abs(value) >= largest / 2 && order.push(i));
  order.sort((a, b) => Math.abs(values[b]) - Math.abs(values[a]));
  const places = [];
  for (const i of order) {
    if (places.length === count) break;
    const [x, y] = [i % width, Math.floor(i / width)];
    if (places.every((one) => Math.hypot(one.x - x, one.y - y) >= apart)) places.push({ x, y, value: values[i] });
  }
  return places;
}

// The end of a scale around 0 for maps in grey levels: 1, 2 or 5 times a power of ten, which at most
// one value in a thousand exceeds.
export function scaleEnd(...maps) {
  const counts = new Uint32Array(8 * 512);
  let rest = 0;
  for (const map of maps) {
    for (const value of map) counts[Math.min(counts.length - 1, Math.ceil(8 * Math.abs(value)))]++;
    rest += map.length / 1000;
  }
  let bin = counts.length - 1;
  for (; bin > 8 && rest - counts[bin] >= 0; bin--) rest -= counts[bin];
  return niceAbove(bin / 8);
}

function niceAbove(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((end) => end >= value * (1 - 1e-9));
}
