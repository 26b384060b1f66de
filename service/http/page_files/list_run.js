// The requests of a list: several at once in the class nightly, with patience for a full service, until
// all entries are done, the run is cancelled, or the results fill their share of memory.

import { superResolve } from "./picture.js";

export const limits = {
  atOnce: 4,
  attempts: 60, // for one entry, while the service is full
  keptBytes: 1 << 30, // of results that are not saved yet
};
const FULL = [429, 503];
// Errors that every other entry would meet too: the run stops, and the entry waits.
const COMMON = [0, 401, 403, 404];
const [SHORTEST_WAIT_MS, LONGEST_WAIT_MS] = [500, 30_000];

export class ListRun {
  // settings(): {model, window} of now. next(): the next waiting entry, or none. onEntry(entry): its state
  // has changed. onPages(entry, count): it is a file with several images. onEnd(words): the run has ended;
  // the words say why, where entries may still wait.
  constructor({ settings, next, onEntry, onPages, onEnd }) {
    Object.assign(this, { settings, next, onEntry, onPages, onEnd });
    this.keptBytes = 0;
    this.controller = null; // of the run
    this.views = new AbortController(); // of requests outside the run
  }

  get isRunning() {
    return this.controller !== null;
  }

  start() {
    if (this.isRunning) return;
    const controller = (this.controller = new AbortController());
    const workers = Array.from({ length: limits.atOnce }, () => this.#work(controller));
    Promise.all(workers).then(() => this.#end(controller, ""));
  }

  stop(words = "") {
    const { controller } = this;
    controller?.abort();
    if (controller) this.#end(controller, words);
  }

  // The answer about one entry that people look at; null where it turns out to be several.
  async answerOf(entry) {
    if (entry.answer) return entry.answer;
    if (entry.error) throw entry.error;
    try {
      if (entry.pending) return await entry.pending;
    } catch (error) {
      if (error.name !== "AbortError") throw error; // else the run was cancelled, and the view goes on
    }
    return this.#request(entry, { signal: this.views.signal });
  }

  // Drop an entry's answer and state; what is in flight for it no longer counts.
  forget(entry) {
    if (entry.answer) this.keptBytes -= entry.answer.sr.size;
    Object.assign(entry, { answer: null, error: null, flags: [], state: "waiting", pending: null, turn: null });
  }

  // Abort every request, of the run and of the view.
  abort() {
    this.views.abort();
    this.views = new AbortController();
    this.stop();
  }

  #end(controller, words) {
    if (this.controller !== controller) return;
    this.controller = null;
    this.onEnd(words);
  }

  async #work(controller) {
    const { signal } = controller;
    for (let entry = this.next(); entry && !signal.aborted; entry = this.next()) {
      if (this.keptBytes >= limits.keptBytes) {
        const size = (this.keptBytes / 2 ** 30).toFixed(1);
        this.stop(`The results take ${size} GiB of this tab’s memory. Save them, and the run goes on with the rest.`);
        return;
      }
      try {
        await this.#request(entry, { signal, priority: "nightly", wantsLr: false });
      } catch (error) {
        if (error.name === "AbortError") return;
        if (!COMMON.includes(error.status)) continue; // the entry shows it
        Object.assign(entry, { state: "waiting", error: null });
        this.onEntry(entry);
        this.stop(`${error.words} The run has stopped; Run goes on with the rest.`);
      }
    }
  }

  #request(entry, options) {
    entry.pending = this.#fetch(entry, options);
    entry.pending.catch(() => {}); // the caller sees it; a second reader may not be there
    return entry.pending;
  }

  async #fetch(entry, options) {
    const turn = {}; // of this request: a later one, or `forget`, takes the entry from it
    Object.assign(entry, { state: "running", error: null, turn });
    this.onEntry(entry);
    try {
      const answer = await this.#patiently(entry, options);
      options.signal.throwIfAborted();
      if (entry.turn !== turn) throw new DOMException("not wanted any more", "AbortError");
      if (answer.pageCount) {
        this.onPages(entry, answer.pageCount);
        return null;
      }
      this.keptBytes += answer.sr.size;
      Object.assign(entry, { state: "done", answer });
      return answer;
    } catch (error) {
      if (entry.turn === turn) {
        const isLeft = error.name === "AbortError";
        Object.assign(entry, { state: isLeft ? "waiting" : "failed", error: isLeft ? null : error });
      }
      throw error;
    } finally {
      if (entry.turn === turn) entry.pending = null;
      this.onEntry(entry);
    }
  }

  async #patiently(entry, options) {
    for (let attempt = 1; ; attempt++) {
      try {
        return await superResolve(entry, this.settings(), options);
      } catch (error) {
        // A person who looks at one picture decides on another try; a run decides by itself.
        if (!options.priority || !FULL.includes(error.status) || attempt >= limits.attempts) throw error;
        await pause(Math.min(LONGEST_WAIT_MS, Math.max(SHORTEST_WAIT_MS, error.retryAfterMs ?? 1000)), options.signal);
      }
    }
  }
}

function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", stop);
      resolve();
    }, ms);
    signal.addEventListener("abort", stop, { once: true });
  });
}
