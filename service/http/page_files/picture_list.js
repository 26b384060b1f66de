// The list of several files: state and flags of each, selection, the run, and the results as one zip.

import { node } from "./answer.js";
import { MOST_FILES } from "./file_drop.js";
import { ListRun, limits } from "./list_run.js";
import { titleOf } from "./picture.js";
import { flagsOf, resultFiles } from "./results.js";
import { offer } from "./saving.js";

const LOOK_AFTER_MS = 150; // a held arrow key passes entries without showing each
const PAGE_ROWS = 10;
const STATES = { waiting: "waiting", running: "running…", done: "done", failed: "failed" };

const $ = (id) => document.getElementById(id);

export class PictureList {
  // settings(): {model, window}; onSelect(entry): show it; onEmpty(): the list was cleared.
  constructor({ settings, onSelect, onEmpty }) {
    Object.assign(this, { settings, onSelect, onEmpty });
    this.entries = [];
    this.selected = null;
    this.count = 0; // of entries so far, for their ids
    this.run = new ListRun({
      settings,
      next: () => this.entries.find(({ state }) => state === "waiting"),
      onEntry: (entry) => this.#refresh(entry),
      onPages: (entry, count) => this.#expand(entry, count),
      onEnd: (words) => (words ? this.#say(words) : this.#summarise()),
    });
    this.#listen();
  }

  get isShown() {
    return this.entries.length > 1;
  }

  // An entry that need not be in the list: a picture, its state, and its answer or error.
  newEntry(blob, name, page = null) {
    return { id: `entry-${this.count++}`, blob, name, page, state: "waiting", answer: null, error: null, flags: [], pending: null, turn: null };
  }

  // Add files. One file alone is shown without a list, and the next one replaces it.
  take({ files, leftOut }) {
    if (!this.isShown) this.#empty();
    const room = MOST_FILES - this.entries.length;
    const added = files.slice(0, room).map(({ blob, name }) => this.newEntry(blob, name));
    const more = leftOut + files.length - added.length;
    this.#say(more ? `${more} other ${more === 1 ? "file was" : "files were"} left out: not pictures by their suffix, or beyond ${MOST_FILES}.` : "");
    if (!added.length) return;
    this.entries.push(...added);
    this.#rebuild();
    this.#begin(added[0]);
  }

  // Show an entry, and run the others behind it: what people look at goes first.
  #begin(entry) {
    this.run.answerOf(entry).catch(() => {}); // the view shows the error
    this.select(entry);
    if (this.isShown) this.run.start();
    this.#summarise();
  }

  select(entry, { isHeld = false } = {}) {
    this.selected = entry;
    clearTimeout(this.timer);
    for (const one of this.entries) one.row?.item.setAttribute("aria-selected", one === entry);
    if (entry?.row) {
      $("list").setAttribute("aria-activedescendant", entry.id);
      entry.row.item.scrollIntoView({ block: "nearest" });
    } else {
      $("list").removeAttribute("aria-activedescendant");
    }
    if (!entry) return;
    if (isHeld) this.timer = setTimeout(() => this.onSelect(entry), LOOK_AFTER_MS);
    else this.onSelect(entry);
  }

  // The answer about an entry; null where it has become the pages of a stack.
  answerOf(entry) {
    return this.run.answerOf(entry);
  }

  // Drop the answer or error of an entry, so that it is asked for again.
  forget(entry) {
    this.run.forget(entry);
    this.#refresh(entry);
  }

  // Go on with a run that stopped, for want of a key.
  resume() {
    if (this.isShown) this.run.start();
    this.#say("");
  }

  // Other settings: all answers so far were for the old ones.
  forgetAnswers() {
    const { isRunning } = this.run;
    this.run.abort();
    for (const entry of this.entries) this.forget(entry);
    if (isRunning) this.run.start();
    this.#summarise();
  }

  #empty() {
    this.run.abort();
    for (const entry of this.entries) this.run.forget(entry);
    this.entries = [];
    this.select(null);
    this.#rebuild();
  }

  #expand(entry, count) {
    const at = this.entries.indexOf(entry);
    const first = Math.max(0, at);
    const room = MOST_FILES - this.entries.length + 1;
    const pages = Array.from({ length: Math.min(count, room) }, (_, page) => this.newEntry(entry.blob, entry.name, page));
    this.entries.splice(first, at < 0 ? 0 : 1, ...pages);
    this.#rebuild();
    if (count > room) this.#say(`${count - room} pages of ${entry.name} were left out: beyond ${MOST_FILES}.`);
    if (this.selected === entry || at < 0) this.#begin(pages[0]);
    this.run.start();
  }

  // --- rows ---

  #rebuild() {
    $("list-panel").hidden = !this.isShown;
    $("list").replaceChildren(...(this.isShown ? this.entries.map((entry) => this.#rowOf(entry)) : []));
    this.#summarise();
  }

  #rowOf(entry) {
    if (entry.row) return entry.row.item;
    const row = { item: node("li", "", { role: "option", id: entry.id, "aria-selected": "false" }), state: node("b"), words: node("small") };
    const name = node("span", titleOf(entry));
    row.item.title = name.textContent;
    row.item.append(name, row.state, row.words);
    row.item.addEventListener("click", () => this.select(entry));
    entry.row = row;
    this.#fill(entry);
    return row.item;
  }

  #refresh(entry) {
    if (entry.answer) entry.flags = flagsOf(entry.answer.headers);
    if (entry.row) this.#fill(entry);
    this.#summarise();
  }

  #fill({ row, state, flags, error }) {
    const isFlagged = state === "done" && flags.length > 0;
    row.item.dataset.state = isFlagged ? "flagged" : state;
    row.state.textContent = isFlagged ? flags.map(([name, value]) => `${name} ${value.toFixed(2)}`).join(", ") : STATES[state];
    row.words.textContent = error ? error.words ?? error.message : "";
    row.words.title = error?.detail ?? "";
    row.item.hidden = !this.#isWanted(row.item.dataset.state);
  }

  #isWanted(state) {
    const wanted = $("list-filter").value;
    return wanted === "all" || wanted === state;
  }

  // --- summary and buttons ---

  #summarise() {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => {
      const { entries, run } = this;
      const number = (isCounted) => entries.filter(isCounted).length;
      const done = number(({ state }) => state === "done");
      const failed = number(({ state }) => state === "failed");
      const flagged = number(({ state, flags }) => state === "done" && flags.length);
      const words = [`${done} of ${entries.length} done`];
      if (flagged) words.push(`${flagged} flagged`);
      if (failed) words.push(`${failed} failed`);
      $("list-summary").textContent = words.join(" · ");
      $("list-bar").max = entries.length || 1;
      $("list-bar").value = done + failed;
      const isLeft = entries.some(({ state }) => state === "waiting");
      $("list-run").textContent = run.isRunning ? "Cancel" : isLeft || !failed ? "Run" : "Retry failed";
      $("list-run").disabled = !run.isRunning && !isLeft && !failed;
      $("list-save").disabled = this.isSaving || !entries.some(({ answer, error }) => answer || error);
    });
  }

  #say(words) {
    $("list-note").textContent = words;
    $("list-note").hidden = !words;
    this.#summarise();
  }

  #toggleRun() {
    if (this.run.isRunning) {
      this.run.stop("Cancelled. Run goes on with the rest.");
      return;
    }
    this.#say("");
    if (!this.entries.some(({ state }) => state === "waiting")) {
      this.entries.filter(({ state }) => state === "failed").forEach((entry) => this.forget(entry));
    }
    this.run.start();
    this.#summarise();
  }

  // --- results ---

  #save() {
    const saved = this.entries.filter(({ answer, error }) => answer || error);
    const files = resultFiles(saved, this.settings().window);
    const worker = new Worker(new URL("page/zip_worker.js", document.baseURI), { type: "module" });
    const end = (words) => {
      this.isSaving = false;
      worker.terminate();
      this.#say(words);
    };
    this.isSaving = true;
    worker.addEventListener("error", () => end("The zip was not made: the browser could not start a worker."));
    worker.addEventListener("message", ({ data: { done, zip, error } }) => {
      if (done) this.#say(`Packing ${done} of ${files.length} files…`);
      else if (error) end(`The zip was not made: ${error}.`);
      else {
        const time = new Date().toISOString().slice(0, 19).replace("T", "_").replaceAll(":", "");
        offer(zip, `semsr_results_${time}.zip`);
        for (const entry of saved) entry.isSaved = true;
        end("");
        this.#release(saved);
      }
    });
    worker.postMessage(files);
    this.#summarise();
  }

  // Make room for the rest of a run that stopped at the limit; what people look at is computed again.
  #release(saved) {
    if (this.run.keptBytes < limits.keptBytes) return;
    for (const entry of saved.filter(({ answer }) => answer)) {
      const { flags } = entry;
      this.run.forget(entry);
      Object.assign(entry, { state: "done", flags });
    }
    this.run.start();
    this.#summarise();
  }

  // --- user actions ---

  #listen() {
    $("list-run").addEventListener("click", () => this.#toggleRun());
    $("list-save").addEventListener("click", () => this.#save());
    $("list-clear").addEventListener("click", () => {
      this.#empty();
      this.#say("");
      this.onEmpty();
    });
    $("list-filter").addEventListener("change", () => {
      for (const entry of this.entries) this.#fill(entry);
    });
    $("list").addEventListener("keydown", (event) => this.#key(event, { ArrowUp: -1, ArrowDown: 1, PageUp: -PAGE_ROWS, PageDown: PAGE_ROWS, Home: -Infinity, End: Infinity }));
    // With the picture in focus its arrows pan.
    $("canvas").addEventListener("keydown", (event) => this.#key(event, { PageUp: -1, PageDown: 1 }));
    window.addEventListener("beforeunload", (event) => {
      if (this.isShown && this.entries.some(({ answer, isSaved }) => answer && !isSaved)) event.preventDefault();
    });
  }

  #key(event, steps) {
    const step = steps[event.key];
    if (step === undefined || !this.isShown || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const seen = this.entries.filter(({ row }) => !row.item.hidden);
    if (!seen.length) return;
    const at = seen.indexOf(this.selected);
    const next = Math.min(seen.length - 1, Math.max(0, at < 0 ? 0 : at + step));
    this.select(seen[next], { isHeld: true });
  }
}
