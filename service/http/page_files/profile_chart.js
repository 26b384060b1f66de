// The chart of a line profile.

import { start } from "./charts.js";
import { barFor } from "./scale.js";

const MARGIN = { left: 30, right: 8, top: 6, bottom: 17 };

// curves: [{values, step, colour, dash}]: grey levels, step in `unit`, colour a custom property;
// edges: [{at, colour}] in the same unit.
export function drawProfile(canvas, { curves, edges, unit }) {
  const { context, width, height, style } = start(canvas);
  let [low, high] = [Infinity, -Infinity];
  for (const value of curves.flatMap(({ values }) => Array.from(values))) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (low > high) return; // nothing, or NaN alone
  const pad = Math.max(2, 0.06 * (high - low));
  const [bottom, top] = [Math.max(0, low - pad), Math.min(255, high + pad)];
  const length = Math.max(...curves.map(({ values, step }) => (values.length - 1) * step)) || 1;
  const box = { x: MARGIN.left, y: MARGIN.top, w: width - MARGIN.left - MARGIN.right, h: height - MARGIN.top - MARGIN.bottom };
  const toX = (at) => box.x + (at / length) * box.w;
  const toY = (value) => box.y + box.h - ((value - bottom) / (top - bottom || 1)) * box.h;

  context.font = `10px ${style.fontFamily}`;
  context.fillStyle = style.getPropertyValue("--muted");
  context.strokeStyle = style.getPropertyValue("--line");
  context.lineWidth = 1;
  context.textAlign = "right";
  context.textBaseline = "middle";
  const greyStep = barFor((top - bottom) / box.h, box.h / 2).units;
  for (let value = Math.ceil(bottom / greyStep) * greyStep; value <= top; value += greyStep) {
    context.fillText(String(Number(value.toPrecision(3))), box.x - 4, toY(value));
    rule(context, [box.x, toY(value)], [box.x + box.w, toY(value)]);
  }
  context.textAlign = "center";
  context.textBaseline = "alphabetic";
  const step = barFor(length / box.w, box.w / 4).units;
  for (let at = 0; at <= length - 0.3 * step; at += step) context.fillText(String(Number(at.toPrecision(4))), toX(at), height - 3);
  context.textAlign = "right";
  context.fillText(unit, width - MARGIN.right, height - 3);

  for (const { at, colour } of edges) {
    context.strokeStyle = style.getPropertyValue(colour);
    context.globalAlpha = 0.55;
    rule(context, [toX(at), box.y], [toX(at), box.y + box.h]);
  }
  context.globalAlpha = 1;
  context.lineWidth = 1.4;
  for (const { values, step: each, colour, dash } of curves) {
    context.strokeStyle = style.getPropertyValue(colour);
    context.setLineDash(dash ?? []);
    context.beginPath();
    let isPen = false;
    values.forEach((value, i) => {
      if (Number.isNaN(value)) isPen = false;
      else if (isPen) context.lineTo(toX(i * each), toY(value));
      else {
        context.moveTo(toX(i * each), toY(value));
        isPen = true;
      }
    });
    context.stroke();
  }
  context.setLineDash([]);
}

function rule(context, from, to) {
  context.beginPath();
  context.moveTo(...from);
  context.lineTo(...to);
  context.stroke();
}
