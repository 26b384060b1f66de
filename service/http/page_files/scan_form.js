// The form that starts a scan: POST /scans, with each error at its field.

import { ask } from "./service.js";

const $ = (id) => document.getElementById(id);

export class ScanForm {
  // onStarted(): a scan was added.
  constructor({ onStarted }) {
    this.form = $("scan-form");
    this.renew();
    this.form.addEventListener("submit", async (event) => {
      event.preventDefault();
      $("scan-submit").disabled = true;
      await this.#submit(onStarted);
      $("scan-submit").disabled = false;
    });
  }

  // A new key: the next request is for another scan. Sent twice, one key makes one scan.
  renew() {
    this.key = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  async #submit(onStarted) {
    this.#show([], "");
    try {
      const body = JSON.stringify(this.#body());
      // Other content with the key of a request that was answered would be refused.
      if (body !== this.sent) this.renew();
      this.sent = body;
      const headers = { "Content-Type": "application/json", "Idempotency-Key": this.key };
      const scan = await (await ask("scans", { method: "POST", body, headers })).json();
      this.form.reset();
      this.sent = null;
      $("scan-form-note").textContent = `Added: ${scan.name || scan.source}, ${scan.detail || scan.state}.`;
      onStarted();
    } catch (error) {
      const known = (error.errors ?? []).filter(({ field }) => this.form.elements.namedItem(field));
      this.#show(known, known.length ? "" : `${error.detail ?? error.message}`);
    }
  }

  #body() {
    const body = { options: {} };
    for (const input of this.form.elements) {
      const [name, option] = input.name.split(".");
      const value = input.type === "checkbox" ? input.checked : input.value.trim();
      // Empty: the service's own default.
      if (!name || value === "" || value === false) continue;
      if (option) body.options[option] = value;
      else body[name] = name === "finish_by" ? new Date(value).toISOString() : value;
    }
    return body;
  }

  #show(errors, words) {
    for (const input of this.form.elements) {
      if (!input.name) continue;
      const found = errors.find(({ field }) => field === input.name);
      if (found) input.setAttribute("aria-invalid", "true");
      else input.removeAttribute("aria-invalid");
      $(`error-${input.name}`).textContent = found?.detail ?? "";
    }
    $("scan-form-note").textContent = words;
    this.form.querySelector("[aria-invalid]")?.focus();
  }
}
