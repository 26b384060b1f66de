// The panel of the line profile: its chart, edges and widths, its fields, and its CSV.

import { node } from "./answer.js";
import { LineTool } from "./line_tool.js";
import { drawProfile } from "./profile_chart.js";
import { findEdges, profileCsv, sampleLine, spreadAcross, widthsOf } from "./profile.js";
import { lengthOf, lengthWords, readPixelSize, sizeWords } from "./scale.js";
import { offer } from "./saving.js";

const $ = (id) => document.getElementById(id);
const NO_SIZE = "The file states no pixel size: lengths are in SR pixels.";
const ENDS = ["line-x1", "line-y1", "line-x2", "line-y2"];

export class ProfilePanel {
  // picturesOf(): {curves: [{name, picture, scale, colour, dash, greys}], size, isEntered, about, stem}, or
  // null; onPixelSize(): another size of an LR pixel was entered.
  constructor(viewer, { picturesOf, onPixelSize }) {
    this.viewer = viewer;
    this.picturesOf = picturesOf;
    this.onPixelSize = onPixelSize;
    this.enteredSize = null; // {x, y} in nm of an LR pixel, for files that state none
    this.tool = new LineTool(viewer, { onChange: () => this.#schedule() });
    this.measured = null;
    this.isWanted = false; // opened by people or by a link
    this.#listen();
  }

  get isOn() {
    return !$("profile-panel").hidden;
  }

  toggle(isOn = !this.isOn) {
    if (isOn && !this.viewer.right) return;
    this.isWanted = isOn;
    this.#open(isOn);
  }

  #open(isOn) {
    $("profile-panel").hidden = !isOn;
    $("profile-toggle").setAttribute("aria-pressed", String(isOn));
    this.viewer.tool = isOn ? this.tool : null;
    if (isOn && !this.tool.line) this.tool.across(false);
    this.viewer.draw();
    this.refresh();
  }

  // Other pictures are shown: a line stays where it is if they have the same size. While there is none, as for
  // a file that failed, line and panel wait for the next one.
  refresh() {
    const { line } = this.tool;
    const { right } = this.viewer;
    if (!right) {
      if (this.isOn) this.#open(false);
      return;
    }
    const size = `${right.width}×${right.height}`;
    if (line && this.size !== size) this.tool.across(false);
    this.size = size;
    if (this.isWanted && !this.isOn) this.#open(true);
    else if (this.isOn) this.#schedule();
  }

  paint() {
    if (this.isOn) this.tool.paint();
  }

  get state() {
    const { line, width } = this.tool;
    return line && this.isOn ? { line, width, share: this.#share } : null;
  }

  set state(state) {
    if (!state) {
      this.toggle(false);
      return;
    }
    this.tool.width = state.width;
    $("line-width").value = state.width;
    $("line-share").value = 100 * state.share;
    this.size = `${this.viewer.right?.width}×${this.viewer.right?.height}`;
    if (!this.viewer.right) return;
    this.tool.set(state.line);
    this.toggle(true);
  }

  // --- the measurement ---

  get #share() {
    return Number($("line-share").value) / 100;
  }

  #schedule() {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.#measure());
  }

  #measure() {
    const shown = this.picturesOf();
    const { line, width } = this.tool;
    $("profile-csv").disabled = !line;
    if (!shown || !line || !this.isOn) return;
    const { curves, size, isEntered } = shown;
    const [dx, dy] = [line.to[0] - line.from[0], line.to[1] - line.from[1]];
    const lengthPx = Math.hypot(dx, dy);
    if (!lengthPx) return;
    const unitPerPx = lengthOf(dx, dy, size) / lengthPx;
    const results = curves.map((curve) => {
      const profile = sampleLine(curve.picture, line, { width, scale: curve.scale });
      const { edges, reason } = findEdges(profile, { share: this.#share });
      const spread = edges.length > 1 && width > 2
        ? spreadAcross(curve.picture, line, edges, { width, scale: curve.scale }) : null;
      return { ...curve, profile, edges, reason, widths: widthsOf(edges), spread };
    });
    this.measured = { results, line, width, unitPerPx, unit: size ? "nm" : "px", lengthPx, isEntered, about: shown.about, stem: shown.stem };
    this.#show();
  }

  #show() {
    const { results, line, unitPerPx, unit, lengthPx, isEntered } = this.measured;
    const isNm = unit === "nm";
    const length = lengthWords(lengthPx * unitPerPx, isNm);
    $("profile-length").textContent = length;
    drawProfile($("profile"), {
      unit,
      curves: results.map(({ profile, colour, dash, greys }) => ({
        step: profile.step * unitPerPx, colour, dash,
        values: profile.values.map((value) => value * (greys?.gain ?? 1) + (greys?.offset ?? 0)),
      })),
      edges: results.flatMap(({ edges, colour }) => edges.map(({ at }) => ({ at: at * unitPerPx, colour }))),
    });
    const told = results.map(({ name, edges }) => `${name} ${edges.length} edges`).join(", ");
    $("profile").setAttribute("aria-label", `Grey levels along a line of ${length}: ${told}`);
    $("profile-widths").tBodies[0].replaceChildren(...results.map((result) => this.#row(result)));
    const isFocused = (field) => document.activeElement === field;
    [...line.from, ...line.to].forEach((value, i) => {
      // A field that is being typed into is left alone.
      if (!isFocused($(ENDS[i]))) $(ENDS[i]).value = Number(value.toFixed(1));
    });
    if (!isFocused($("line-width"))) $("line-width").value = this.tool.width;
    $("pixel-form").hidden = isNm && !isEntered;
  }

  #row({ name, style, edges, reason, widths, spread }) {
    const { unitPerPx, unit } = this.measured;
    const row = node("tr");
    row.append(node("th", name, { scope: "row", class: style }), node("td", String(edges.length)));
    if (!edges.length) {
      row.append(node("td", reason, { colspan: 3, class: "reason" }));
      return row;
    }
    for (const kind of ["bright", "dark", "pitch"]) {
      const cell = node("td");
      const found = widths[kind];
      if (found) {
        const words = (value) => (value * unitPerPx).toFixed(1);
        cell.append(node("b", `${words(found.mean)} ${unit}`));
        const sd = found.sd === null ? "" : `, sd ${words(found.sd)}`;
        cell.append(node("span", `n ${found.count}${sd}`, { class: "note" }));
        if (spread && spread[kind] !== null && kind !== "pitch") {
          cell.append(node("span", `across ${words(spread[kind])}`, { class: "note", title: `Over ${spread.lines} lines` }));
        }
      } else cell.textContent = "–";
      row.append(cell);
    }
    return row;
  }

  #csv() {
    const { results, line, width, unitPerPx, unit, about, stem } = this.measured;
    const ends = (at) => at.map((value) => value.toFixed(2)).join(",");
    const listed = ({ edges }) => edges.map(({ at, rises }) => `${(at * unitPerPx).toFixed(3)}${rises ? "+" : "-"}`).join(" ") || "none";
    const facts = [
      ...about, ["from_px", ends(line.from)], ["to_px", ends(line.to)], ["averaged_lines", width],
      ["threshold", `${Math.round(100 * this.#share)} % of the height between the plateaus of each edge`],
      ...results.map((result) => [`edges_${unit} ${result.name}`, listed(result)]),
    ];
    const { step } = results[0].profile;
    offer(
      new Blob([profileCsv({
        facts, step, unitPerPx, unit,
        curves: results.map(({ column, profile }) => ({ name: column, values: profile.values })),
      })], { type: "text/csv" }),
      `${stem}_profile.csv`,
    );
  }

  // --- fields ---

  #listen() {
    $("profile-toggle").addEventListener("click", () => this.toggle());
    $("line-horizontal").addEventListener("click", () => this.tool.across(false));
    $("line-vertical").addEventListener("click", () => this.tool.across(true));
    $("profile-csv").addEventListener("click", () => this.measured && this.#csv());
    for (const id of ENDS) {
      $(id).addEventListener("change", () => {
        const [x1, y1, x2, y2] = ENDS.map((one) => $(one).valueAsNumber);
        if ([x1, y1, x2, y2].every(Number.isFinite)) this.tool.set({ from: [x1, y1], to: [x2, y2] });
      });
    }
    $("line-width").addEventListener("change", (event) => {
      const width = event.target.valueAsNumber;
      this.tool.width = Math.min(999, Math.max(1, Math.round(width) || 1));
      event.target.value = this.tool.width;
      this.viewer.draw();
      this.#schedule();
    });
    $("line-share").addEventListener("change", (event) => {
      event.target.value = Math.min(90, Math.max(10, event.target.valueAsNumber || 50));
      this.viewer.draw();
      this.#schedule();
    });
    $("pixel-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const text = $("pixel-size").value.trim();
      const size = readPixelSize(text);
      if (!size && text) {
        $("pixel-size-words").textContent = `LR pixel size is ${text}; expected a positive number of nm, as 4.5, or two for x and y, as 4,4.5.`;
        return;
      }
      this.enteredSize = size;
      $("pixel-size-words").textContent = size ? `${sizeWords(size)} for each LR pixel, for files that state no size.` : NO_SIZE;
      this.onPixelSize();
      this.#schedule();
    });
    new ResizeObserver(() => this.isOn && this.measured && this.#show()).observe($("profile"));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.isOn && this.measured && this.#show());
  }
}
