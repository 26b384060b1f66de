// Tables of colours, and canvases painted by them. A table is a Uint32Array of RGBA pixels.

// Blue to orange over near-black: the sign is the hue, the size the brightness. Both ends stay
// apart for the three kinds of colour blindness (tested), unlike red and green.
const DIVERGING = [
  [-1, 168, 212, 255], [-0.5, 46, 116, 208], [0, 20, 20, 20], [0.5, 186, 92, 6], [1, 255, 206, 120],
];
const STEPS = 511;

const pixel = (red, green, blue) => (0xff000000 | (blue << 16) | (green << 8) | red) >>> 0;

// Colours of values from -1 to 1.
export function divergingTable() {
  const table = new Uint32Array(STEPS);
  for (let i = 0; i < STEPS; i++) {
    const value = (2 * i) / (STEPS - 1) - 1;
    const above = Math.max(1, DIVERGING.findIndex(([at]) => value <= at));
    const [from, ...low] = DIVERGING[above - 1];
    const [to, ...high] = DIVERGING[above];
    const share = (value - from) / (to - from);
    table[i] = pixel(...low.map((channel, k) => Math.round(channel + share * (high[k] - channel))));
  }
  return table;
}

// Greys of the 256 levels: `greys` is applied first, then `black` is shown black and `white` white.
export function greyTable({ gain = 1, offset = 0 } = {}, { black = 0, white = 255 } = {}) {
  const shown = Uint8ClampedArray.from(
    { length: 256 }, (_, level) => (255 * (level * gain + offset - black)) / Math.max(1, white - black),
  );
  return Uint32Array.from(shown, (level) => pixel(level, level, level));
}

export function cssColour(rgba) {
  return `rgb(${rgba & 255} ${(rgba >> 8) & 255} ${(rgba >> 16) & 255})`;
}

// A canvas of grey levels.
export function paintGreys({ width, height, grey }, table) {
  return paint(width, height, (pixels) => {
    for (let i = 0; i < pixels.length; i++) pixels[i] = table[grey[i]];
  });
}

// A canvas of any values, from `low`, the table's first colour, to `high`, its last.
export function paintValues(values, width, height, { low, high, table }) {
  const last = table.length - 1;
  const steps = last / (high - low);
  return paint(width, height, (pixels) => {
    for (let i = 0; i < pixels.length; i++) {
      pixels[i] = table[Math.min(last, Math.max(0, Math.round((values[i] - low) * steps)))];
    }
  });
}

function paint(width, height, fill) {
  const image = new ImageData(width, height);
  fill(new Uint32Array(image.data.buffer));
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}
