// The scans that ended in the last week: how, why, their manifest, and another try.

import { node } from "./answer.js";
import { ask } from "./service.js";

const DAYS = 7;
const SHOWN = 30;
const STATES = ["done", "incomplete", "failed", "cancelled"];
const PERIOD_MS = 60_000; // a scan leaves the list when its week is over
const RETRY_MS = 3000;

const $ = (id) => document.getElementById(id);
const number = (value) => value.toLocaleString("en");
const path = (id, verb) => `scans/${encodeURIComponent(id)}/${verb}`;

export class EndedScans {
  // onAllowed(isAllowed): whether the service lists scans with the page's key. onRetry(): one is active again.
  constructor({ onAllowed, onRetry }) {
    Object.assign(this, { onAllowed, onRetry });
    this.askedAt = -Infinity;
    this.counts = "";
    this.period = PERIOD_MS;
  }

  // states: samples of semsr_scans; a change means that a scan has ended, was resumed or was forgotten.
  follow(states) {
    const counts = states.filter(({ labels }) => STATES.includes(labels.state)).map(({ value }) => value).join();
    if (counts === this.counts && performance.now() - this.askedAt < this.period) return;
    this.counts = counts;
    this.refresh();
  }

  async refresh() {
    this.askedAt = performance.now();
    this.period = PERIOD_MS;
    const after = new Date(Date.now() - DAYS * 86_400_000).toISOString();
    const query = new URLSearchParams([...STATES.map((state) => ["state", state]), ["ended_after", after], ["limit", SHOWN]]);
    try {
      const { scans, next } = await (await ask(`scans?${query}`)).json();
      this.onAllowed(true);
      scans.sort((a, b) => b.ended.localeCompare(a.ended));
      $("scans-ended").replaceChildren(...scans.map((scan) => this.#row(scan)));
      $("scans-ended-note").textContent = next ? `The newest ${SHOWN}; GET /scans lists all.` : scans.length ? "" : "None.";
    } catch (error) {
      if (error.status === 401) this.onAllowed(false);
      $("scans-ended-note").textContent = error.status === 401 ? "" : `No answer: ${error.detail ?? error.message}`;
    }
    $("scans-ended-note").hidden = !$("scans-ended-note").textContent;
  }

  #row(scan) {
    const name = scan.name || scan.source;
    const item = node("li", "", { "data-state": scan.state });
    const head = node("div");
    const title = node("b", name);
    title.title = `${scan.id}: ${scan.source} → ${scan.sink}`;
    head.append(title, node("span", scan.state, { class: "end" }));
    const words = node("p", wordsOf(scan));
    const buttons = node("div", "", { class: "small-buttons" });
    const add = (label, act) => {
      const button = node("button", label, { type: "button", "aria-label": `${label} of ${name}` });
      button.addEventListener("click", () => act().catch((error) => (words.textContent = error.detail ?? error.message)));
      buttons.append(button);
    };
    if (scan.result?.manifest?.includes("/") && !scan.result.manifest.startsWith("not written")) {
      add("Manifest", () => download(scan));
    }
    if (["incomplete", "failed"].includes(scan.state)) {
      add("Retry", async () => {
        await ask(path(scan.id, "resume"), { method: "POST" });
        item.remove();
        // It may end before the counts of the states, which are measured now and then, have changed.
        this.askedAt = performance.now();
        this.period = RETRY_MS;
        this.onRetry();
      });
    }
    item.append(head, words);
    for (const { source, error } of scan.failures.slice(0, 3)) item.append(node("p", `${source}: ${error}`, { class: "failure" }));
    if (buttons.children.length) item.append(buttons);
    return item;
  }
}

// By the page and not by a link: a link carries no API key.
async function download(scan) {
  const blob = await (await ask(path(scan.id, "manifest"))).blob();
  const url = URL.createObjectURL(blob);
  const suffix = scan.result.manifest.split(".").pop();
  const stem = (scan.name || scan.id).replace(/[^\w.-]+/g, "_");
  node("a", "", { href: url, download: `${stem}_manifest.${suffix}` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

function wordsOf({ ended, started, tiles, detail }) {
  const words = [new Date(ended).toLocaleString([], { dateStyle: "short", timeStyle: "short" })];
  if (tiles) words.push(tiles.done === tiles.total ? `${number(tiles.total)} tiles` : `${number(tiles.done)} of ${number(tiles.total)} tiles`);
  if (tiles?.failed) words.push(`${number(tiles.failed)} failed`);
  if (started) words.push(`took ${duration(new Date(ended) - new Date(started))}`);
  if (detail) words.push(detail.replace(/; POST \S+\/resume .*$/, "")); // the page has a button for it
  return words.join(" · ");
}

function duration(ms) {
  const minutes = Math.round(ms / 60_000);
  if (minutes < 1) return "less than a minute";
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
