// The second model of a comparison, and what the page must know of a model to judge its answer.

import { node } from "./answer.js";
import { superResolve } from "./picture.js";
import { ask } from "./service.js";

const $ = (id) => document.getElementById(id);
const known = new Map(); // by name and version: {trust, tile}

// Offer every ready model as the left side; with a single one there is nothing to choose.
export function offerSecond(models) {
  const before = $("left-model").value;
  const ready = models.filter(({ state }) => state === "READY");
  $("left-model").replaceChildren(
    node("option", "LR", { value: "" }), ...ready.map(({ name }) => node("option", `SR of ${name}`, { value: name })),
  );
  if (ready.some(({ name }) => name === before)) $("left-model").value = before;
  $("left-model-field").hidden = ready.length < 2;
}

// The answer of the second model to what the first has answered: {name, headers, sr}, {name, problem} where
// it failed, or null where none is chosen. Asked after the first, so that neither waits for the other.
// picture, settings: those of the first; seen: what the service decoded for it, or null.
export async function askSecond(picture, settings, { signal, seen }) {
  const name = $("left-model").value;
  if (!name) return null;
  // Both models get the same grey levels, or their windows would be compared.
  const window = seen?.window?.join(",") ?? settings.window;
  try {
    const { headers, sr } = await superResolve(picture, { model: name, window }, { signal, seen, wantsLr: false });
    return { name, headers, sr };
  } catch (problem) {
    if (problem.name === "AbortError") throw problem;
    return { name, problem };
  }
}

// Limits and tile of the model that gave an answer: {trust, tile}; both null without an answer
// or the service does not describe its model, as for a version that was replaced in between.
export async function describe(headers, signal) {
  if (!headers) return { trust: null, tile: null };
  const [name, version] = [headers.get("x-model"), headers.get("x-model-version")];
  const key = `${name} ${version}`;
  if (!known.has(key)) {
    try {
      const model = await (await ask(`model?model=${encodeURIComponent(name)}`, { signal })).json();
      if (!model.sha256.startsWith(version)) return { trust: null, tile: null };
      known.set(key, { trust: model.trust ?? null, tile: model.tile });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      return { trust: null, tile: null };
    }
  }
  return known.get(key);
}
