// Pure functions on grey pictures: {width, height, grey: Uint8Array}, row by row.

// Bicubic enlargement (Keys 1981, a = -0.5, weights renormalised at the edges): as Pillow's
// BICUBIC, so that the page shows the same left picture as the project's reports.
export function bicubic(picture, width, height) {
  const across = weightsFor(picture.width, width);
  const down = weightsFor(picture.height, height);
  const rows = new Float32Array(width * picture.height);
  for (let y = 0; y < picture.height; y++) {
    const from = y * picture.width;
    const to = y * width;
    for (let x = 0; x < width; x++) {
      let sum = 0;
      for (let k = 0; k < 4; k++) sum += across.weight[4 * x + k] * picture.grey[from + across.index[4 * x + k]];
      rows[to + x] = sum;
    }
  }
  const grey = new Uint8ClampedArray(width * height); // rounds and clamps
  for (let y = 0; y < height; y++) {
    const [w0, w1, w2, w3] = down.weight.subarray(4 * y, 4 * y + 4);
    const [r0, r1, r2, r3] = Array.from(down.index.subarray(4 * y, 4 * y + 4), (row) => row * width);
    const to = y * width;
    for (let x = 0; x < width; x++) {
      grey[to + x] = w0 * rows[r0 + x] + w1 * rows[r1 + x] + w2 * rows[r2 + x] + w3 * rows[r3 + x];
    }
  }
  return { width, height, grey: new Uint8Array(grey.buffer) };
}

// Four source positions and weights for each target position of an enlargement.
function weightsFor(source, target) {
  const index = new Int32Array(4 * target);
  const weight = new Float32Array(4 * target);
  for (let x = 0; x < target; x++) {
    const centre = ((x + 0.5) * source) / target - 0.5;
    const first = Math.floor(centre) - 1;
    let sum = 0;
    for (let k = 0; k < 4; k++) {
      const at = first + k;
      const isInside = at >= 0 && at < source;
      index[4 * x + k] = Math.min(source - 1, Math.max(0, at));
      weight[4 * x + k] = isInside ? keys(Math.abs(centre - at)) : 0;
      sum += weight[4 * x + k];
    }
    for (let k = 0; k < 4; k++) weight[4 * x + k] /= sum;
  }
  return { index, weight };
}

function keys(t) {
  if (t < 1) return (1.5 * t - 2.5) * t * t + 1;
  return t < 2 ? ((-0.5 * t + 2.5) * t - 4) * t + 2 : 0;
}

// Gain and offset that give an LR picture the SR's greys: sent * gain + offset. Fitted as
// LR = a * SR + b on the LR grid, because noise in the regressor would flatten the fit. Two answers
// of one size are fitted likewise.
export function fitGreys(sent, sr) {
  const scale = sr.width / sent.width;
  const area = scale * scale;
  let [sx, sy, sxx, sxy, syy] = [0, 0, 0, 0, 0];
  for (let y = 0; y < sent.height; y++) {
    for (let x = 0; x < sent.width; x++) {
      let sum = 0;
      for (let dy = 0; dy < scale; dy++) {
        const from = (y * scale + dy) * sr.width + x * scale;
        for (let dx = 0; dx < scale; dx++) sum += sr.grey[from + dx];
      }
      const fine = sum / area;
      const coarse = sent.grey[y * sent.width + x];
      sx += fine;
      sy += coarse;
      sxx += fine * fine;
      sxy += fine * coarse;
      syy += coarse * coarse;
    }
  }
  const count = sent.grey.length;
  const common = count * sxy - sx * sy;
  const ofSr = count * sxx - sx * sx;
  const ofSent = count * syy - sy * sy;
  // Without common structure a gain cannot be fitted: only the means are matched.
  const gain = common > 0.1 * Math.sqrt(ofSr * ofSent) ? ofSr / common : 1;
  return { gain, offset: (sx - gain * sy) / count };
}

// Gradient magnitude by Sobel's operator in grey levels a pixel, as Float32Array; edges repeated.
export function gradient({ width, height, grey }) {
  const magnitude = new Float32Array(width * height);
  for (let y = 0; y < height; y++) {
    const up = Math.max(0, y - 1) * width;
    const here = y * width;
    const down = Math.min(height - 1, y + 1) * width;
    for (let x = 0; x < width; x++) {
      const l = Math.max(0, x - 1);
      const r = Math.min(width - 1, x + 1);
      const gx = grey[up + r] + 2 * grey[here + r] + grey[down + r] - grey[up + l] - 2 * grey[here + l] - grey[down + l];
      const gy = grey[down + l] + 2 * grey[down + x] + grey[down + r] - grey[up + l] - 2 * grey[up + x] - grey[up + r];
      magnitude[here + x] = Math.sqrt(gx * gx + gy * gy) / 8;
    }
  }
  return magnitude;
}

// Counts of the 256 grey levels, and their statistics.
export function histogram({ grey }) {
  const counts = new Uint32Array(256);
  for (const level of grey) counts[level]++;
  let sum = 0;
  let squares = 0;
  let min = 255;
  let max = 0;
  counts.forEach((count, level) => {
    sum += count * level;
    squares += count * level * level;
    if (count) {
      min = Math.min(min, level);
      max = level;
    }
  });
  const mean = sum / grey.length;
  return { counts, total: grey.length, mean, sd: Math.sqrt(Math.max(0, squares / grey.length - mean * mean)), min, max };
}

export function mean(values) {
  let sum = 0;
  for (const value of values) sum += value;
  return sum / values.length;
}

// The value that a share of all values does not exceed, to an eighth of a grey level.
export function percentile(lists, share) {
  const counts = new Uint32Array(8 * 256);
  let total = 0;
  for (const values of lists) {
    for (const value of values) counts[Math.min(counts.length - 1, Math.ceil(8 * value))]++;
    total += values.length;
  }
  let seen = 0;
  for (let bin = 0; bin < counts.length; bin++) {
    seen += counts[bin];
    if (seen >= share * total) return bin / 8;
  }
  return counts.length / 8;
}
