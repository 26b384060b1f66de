// Pure functions on lengths: the pixel size, scale bars, and lengths in words.

// Text of a pixel size, as `X-Pixel-Size-Nm` has it, to {x, y} in nm; null where it is none.
export function readPixelSize(text) {
  const parts = (text ?? "").split(",").map(Number);
  const [x, y = x] = parts;
  return parts.length <= 2 && [x, y].every((size) => size > 0 && size < Infinity) ? { x, y } : null;
}

export const sizeWords = ({ x, y }) => `${Number(x.toPrecision(4))} × ${Number(y.toPrecision(4))} nm`;

// Length of a vector of SR pixels: in nm where the pixel size is known, else in pixels.
export function lengthOf(dx, dy, size) {
  return size ? Math.hypot(dx * size.x, dy * size.y) : Math.hypot(dx, dy);
}

// The longest bar of 1, 2 or 5 times a power of ten that fits: {units, pixels}.
export function barFor(unitsPerPixel, roomPx) {
  const room = unitsPerPixel * roomPx;
  const power = 10 ** Math.floor(Math.log10(room));
  const units = [5, 2, 1].map((step) => step * power).find((length) => length <= room * (1 + 1e-9));
  return { units, pixels: units / unitsPerPixel };
}

// A length in nm, or in SR pixels where no size is known, with its unit.
export function lengthWords(value, isNm, digits = 1) {
  if (!isNm) return `${value.toFixed(digits)} px`;
  return Math.abs(value) >= 10_000 ? `${(value / 1000).toFixed(digits + 1)} µm` : `${value.toFixed(digits)} nm`;
}

// A bar's length: no digits that are not needed.
export function barWords(units, isNm) {
  if (!isNm) return `${Number(units.toPrecision(3))} px`;
  return units >= 1000 ? `${Number((units / 1000).toPrecision(3))} µm` : `${Number(units.toPrecision(3))} nm`;
}
