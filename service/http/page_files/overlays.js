// What is painted over the pictures: scale bar, legend of a map, and rings around places.

import { cssColour } from "./colours.js";
import { barFor, barWords } from "./scale.js";

const ROOM_PX = 160; // longest scale bar, CSS pixels
const LEGEND_PX = 190;
const INK = "#fff";
const GROUND = "#000c";

// size: {x, y} of an SR pixel in nm, or null.
export function paintOverlays(viewer, { size, legend, places }) {
  const { over: context, canvas, ratio } = viewer;
  context.save();
  context.font = `${12 * ratio}px "DejaVu Sans", system-ui, sans-serif`;
  context.textBaseline = "middle";
  const labels = []; // boxes of the painted labels: the strongest place comes first
  for (const [i, place] of (places ?? []).entries()) paintRings(viewer, place, i, labels);
  paintBar(context, canvas, ratio, size, viewer.zoom);
  if (legend) paintLegend(context, canvas, ratio, legend);
  context.restore();
}

function paintBar(context, canvas, ratio, size, zoom) {
  const { units, pixels } = barFor((size?.x ?? 1) / zoom, Math.min(ROOM_PX * ratio, canvas.width / 3));
  const words = barWords(units, Boolean(size)) + (size ? "" : " of the SR");
  const width = Math.max(pixels, context.measureText(words).width) + 16 * ratio;
  const [left, top] = [8 * ratio, canvas.height - 44 * ratio];
  context.fillStyle = GROUND;
  context.fillRect(left, top, width, 36 * ratio);
  context.fillStyle = INK;
  context.fillText(words, left + 8 * ratio, top + 12 * ratio);
  context.fillRect(left + 8 * ratio, top + 25 * ratio, pixels, 4 * ratio);
}

function paintLegend(context, canvas, ratio, { low, high, unit, table }) {
  const length = Math.min(LEGEND_PX * ratio, canvas.width / 2.4);
  const [left, top] = [canvas.width - length - 40 * ratio, canvas.height - 52 * ratio];
  context.fillStyle = GROUND;
  context.fillRect(left - 24 * ratio, top, length + 56 * ratio, 44 * ratio);
  const ramp = context.createLinearGradient(left, 0, left + length, 0);
  for (let i = 0; i <= 32; i++) ramp.addColorStop(i / 32, cssColour(table[Math.round((i / 32) * (table.length - 1))]));
  context.fillStyle = ramp;
  context.fillRect(left, top + 17 * ratio, length, 9 * ratio);
  context.fillStyle = INK;
  context.textAlign = "center";
  context.fillText(unit, left + length / 2, top + 9 * ratio);
  const steps = low < 0 ? [-1, -0.5, 0, 0.5, 1] : [0, 0.25, 0.5, 0.75, 1];
  for (const step of steps) {
    const value = low < 0 ? step * high : low + step * (high - low);
    const x = left + ((value - low) / (high - low)) * length;
    const text = `${value < 0 ? "−" : value > 0 && low < 0 ? "+" : ""}${Number(Math.abs(value).toPrecision(2))}`;
    context.fillText(text, x, top + 35 * ratio);
  }
  context.textAlign = "left";
}

// Rings show a place without hiding it; white on black is seen on any grey.
function paintRings(viewer, { at, radius, label }, i, labels) {
  const { over: context, ratio } = viewer;
  for (const pane of viewer.panes()) {
    context.save();
    context.beginPath();
    context.rect(pane.x, pane.y, pane.w, pane.h);
    context.clip();
    const [x, y] = viewer.toScreen(at, pane);
    const size = Math.max(radius * viewer.zoom, 14 * ratio);
    for (const [style, width] of [["#000", 4], [INK, 2]]) {
      context.beginPath();
      context.arc(x, y, size, 0, 2 * Math.PI);
      context.strokeStyle = style;
      context.lineWidth = width * ratio;
      context.setLineDash(i ? [4 * ratio, 4 * ratio] : []);
      context.stroke();
    }
    const box = { x: x + size, y: y - size - 9 * ratio, w: context.measureText(label).width + 8 * ratio, h: 18 * ratio };
    // A label over another one makes both unreadable.
    if (!labels.some((other) => overlap(box, other))) {
      labels.push(box);
      context.fillStyle = GROUND;
      context.fillRect(box.x, box.y, box.w, box.h);
      context.fillStyle = INK;
      context.fillText(label, box.x + 4 * ratio, y - size);
    }
    context.restore();
  }
}

const overlap = (a, b) => a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h;
