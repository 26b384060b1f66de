// The panel of grey levels: the histogram with the levels that are shown, and the statistics.

import { node } from "./answer.js";
import { drawHistogram } from "./charts.js";

const $ = (id) => document.getElementById(id);
const CLIPPED = 0.002; // share of pixels that the automatic levels leave out at each end

// compared: the worker's answer with otherName, the name of the second model, if there is one.
export function fillGreys({ histograms: [left, right], pictures, other, otherName }) {
  const words = [["LR as sent", left], ["SR", right]].filter(([, one]) => one)
    .map(([name, one]) => `${name} mean ${one.mean.toFixed(1)}, standard deviation ${one.sd.toFixed(1)}`);
  $("histogram").setAttribute("aria-label", `Histogram: ${words.join("; ")}`);
  const rows = [["LR", "lr", left, pictures[0]], ["SR", "sr", right, pictures[1]], [`SR ${otherName}`, "other", other?.histogram, other]];
  $("statistics").tBodies[0].replaceChildren(...rows.filter(([, , one]) => one).map(([name, style, one, picture]) => {
    const row = node("tr");
    row.append(
      node("th", name, { scope: "row", class: style }), node("td", one.mean.toFixed(1)), node("td", one.sd.toFixed(1)),
      node("td", `${one.min}–${one.max}`), node("td", picture.meanGradient.toFixed(2)),
    );
    return row;
  }));
  $("statistics").hidden = $("levels").hidden = false;
}

export function emptyGreys() {
  drawHistogram($("histogram"), null, null);
  $("statistics").hidden = $("levels").hidden = true;
}

// compared: as above, or null; levels: those shown black and white.
export function drawGreys(compared, levels) {
  drawHistogram($("histogram"), ...(compared?.histograms ?? [null, null]), compared ? levels : null);
}

// Levels that leave out the darkest and brightest pixels of a histogram: {black, white}.
export function automaticLevels({ counts, total }) {
  const reach = (order) => {
    let seen = 0;
    return order.find((level) => (seen += counts[level]) > CLIPPED * total);
  };
  const all = Array.from(counts.keys());
  return { black: reach(all), white: reach(all.toReversed()) };
}
