// The models that the service offers, the card of the chosen one, and the key that the service may want.

import { node } from "./answer.js";
import { fillCard } from "./card.js";
import { offerSecond } from "./second_model.js";
import { apiKey, ask } from "./service.js";

const $ = (id) => document.getElementById(id);

export function askForKey(refusal) {
  // A missing key is not an error yet; a refused one is shown with its reason.
  $("key-words").textContent = apiKey.get() ? `The service does not take this key: ${refusal}.` : "This service wants an API key.";
  $("key-form").hidden = false;
  $("key-forget").hidden = true;
  $("key").focus();
}

// Fill both choices of a model with those of now; what was chosen stays so. Returns whether it could.
export async function listModels() {
  let models;
  try {
    models = await (await ask("v2/repository/index", { method: "POST" })).json();
  } catch (error) {
    if (error.status === 401) askForKey(error.detail);
    return false;
  }
  $("key-forget").hidden = !apiKey.get();
  const before = $("model").value;
  $("model").replaceChildren(...models.map(({ name, state, reason }) => {
    const option = node("option", state === "READY" ? name : `${name} (${reason})`, { value: name });
    option.disabled = state !== "READY";
    return option;
  }));
  if (models.some(({ name, state }) => name === before && state === "READY")) $("model").value = before;
  $("model").disabled = $("card-open").disabled = !models.length;
  offerSecond(models);
  return true;
}

// onKey(): another key was entered. onProblem(error, retry): the card did not come.
export function listenForModels({ onKey, onProblem }) {
  $("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const key = $("key").value.trim();
    $("key").value = "";
    if (!/^[\x21-\x7e]+$/.test(key)) {
      $("key-words").textContent = "An API key holds no spaces and no special letters.";
      return;
    }
    apiKey.set(key);
    $("key-form").hidden = true;
    onKey();
  });
  $("key-forget").addEventListener("click", () => {
    apiKey.forget();
    askForKey();
  });
  $("card-open").addEventListener("click", async () => {
    try {
      fillCard(await (await ask(`model?model=${encodeURIComponent($("model").value)}`)).json());
      $("card").showModal();
    } catch (error) {
      onProblem(error, () => $("card-open").click());
    }
  });
  $("card-close").addEventListener("click", () => $("card").close());
}
