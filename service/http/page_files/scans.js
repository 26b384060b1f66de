// The panel of nightly scans: progress, pause and resume of the active ones, the ended ones, and a new one.

import { node } from "./answer.js";
import { ScanForm } from "./scan_form.js";
import { EndedScans } from "./scans_ended.js";
import { apiKey, ask } from "./service.js";

const PERIOD_MS = 2000;
const SHOWN = 20;
const QUERY = `scans?state=running&state=paused&state=queued&limit=${SHOWN}`;
const ORDER = ["running", "paused", "queued"];

const $ = (id) => document.getElementById(id);
const number = (value) => value.toLocaleString("en");

export class Scans {
  constructor() {
    this.rows = new Map(); // by id; kept, so that the focus does not move
    this.askedAt = -Infinity;
    this.refusedKey = undefined; // the key, or null, with which the service does not list them
    this.ended = new EndedScans({ onAllowed: (isAllowed) => this.#allow(isAllowed), onRetry: () => this.#refresh() });
    new ScanForm({ onStarted: () => this.#refresh() });
  }

  // samples: of /metrics, which say whether there are scans here, and any that has not ended.
  follow(samples) {
    const states = samples.filter(({ name }) => name === "semsr_scans");
    $("scans-panel").hidden = !states.length;
    if (!states.length || this.refusedKey === apiKey.get()) return;
    this.ended.follow(states);
    const isAny = states.some(({ labels, value }) => value > 0 && ORDER.includes(labels.state));
    if (!isAny && !this.rows.size) {
      this.#say("None runs or waits.");
      return;
    }
    if (performance.now() - this.askedAt < PERIOD_MS) return;
    this.askedAt = performance.now();
    this.#refresh();
  }

  async #refresh() {
    try {
      const { scans, next } = await (await ask(QUERY)).json();
      this.#allow(true);
      scans.sort((a, b) => ORDER.indexOf(a.state) - ORDER.indexOf(b.state));
      this.#show(scans);
      this.#say(next ? `The newest ${SHOWN}; GET /scans lists all.` : scans.length ? "" : "None runs or waits.");
    } catch (error) {
      if (error.status === 401) this.#allow(false);
      else this.#say(`No answer: ${error.detail ?? error.message}`);
    }
  }

  #allow(isAllowed) {
    this.refusedKey = isAllowed ? undefined : apiKey.get();
    $("scan-new").hidden = $("scans-ended-title").hidden = !isAllowed;
    if (!isAllowed) this.#say("Listed with an API key.");
  }

  #show(scans) {
    const known = new Set(scans.map(({ id }) => id));
    const gone = [...this.rows].filter(([id]) => !known.has(id));
    for (const [id, row] of gone) {
      row.item.remove();
      this.rows.delete(id);
    }
    if (gone.length) this.ended.refresh();
    for (const scan of scans) {
      if (!this.rows.has(scan.id)) this.rows.set(scan.id, this.#newRow(scan.id));
      this.#fill(this.rows.get(scan.id), scan);
    }
    // Only misplaced rows are moved: a moved button loses the focus.
    scans.forEach(({ id }, index) => {
      const { item } = this.rows.get(id);
      if ($("scans").children[index] !== item) $("scans").insertBefore(item, $("scans").children[index] ?? null);
    });
  }

  #newRow(id) {
    const row = {
      item: node("li"), name: node("b"), bar: node("progress"), words: node("p"),
      button: node("button", "", { type: "button" }),
    };
    row.name.id = `scan-${id}`;
    row.bar.setAttribute("aria-labelledby", row.name.id);
    row.button.addEventListener("click", () => this.#toggle(id, row));
    const head = node("div");
    head.append(row.name, row.button);
    row.item.append(head, row.bar, row.words);
    return row;
  }

  #fill(row, scan) {
    const name = scan.name || scan.source;
    row.name.textContent = name;
    row.name.title = `${scan.id}: ${scan.source} → ${scan.sink}`;
    const { tiles } = scan;
    if (tiles) {
      row.bar.max = tiles.total;
      row.bar.value = tiles.done + tiles.failed;
    } else {
      row.bar.removeAttribute("value");
    }
    row.words.textContent = wordsOf(scan);
    row.words.classList.toggle("alarm", scan.makes_finish_by === false);
    const isPaused = scan.state === "paused";
    row.verb = isPaused ? "resume" : "pause";
    row.button.textContent = isPaused ? "Resume" : "Pause";
    row.button.setAttribute("aria-label", `${row.button.textContent} ${name}`);
  }

  async #toggle(id, row) {
    try {
      const scan = await (await ask(`scans/${encodeURIComponent(id)}/${row.verb}`, { method: "POST" })).json();
      this.#fill(row, scan);
    } catch (error) {
      row.words.textContent = error.detail ?? error.message;
    }
  }

  #say(words) {
    $("scans-note").textContent = words;
    $("scans-note").hidden = !words;
  }
}

function wordsOf({ state, detail, tiles, tiles_per_s: rate, eta, makes_finish_by: isInTime, late_by_s: lateS }) {
  const words = [state];
  if (tiles) words.push(`${number(tiles.done)} of ${number(tiles.total)} tiles`);
  if (tiles?.failed) words.push(`${number(tiles.failed)} failed`);
  if (rate && state === "running") words.push(`${rate.toFixed(rate < 100 ? 1 : 0)} / s`);
  if (eta) words.push(`done ${new Date(eta).toLocaleString([], { dateStyle: "short", timeStyle: "short" })}`);
  if (isInTime === true) words.push("in time");
  if (isInTime === false) words.push(`late by ${Math.max(1, Math.round(lateS / 60))} min`);
  if (detail && state !== "paused") words.push(detail);
  return words.join(" · ");
}
