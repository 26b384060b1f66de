// One picture's way through the service: what is sent, what comes back, and the LR that the page shows.
//
// A picture is {blob, name, page}: a file, and the index of the image in a TIFF with several, or null.

import { inspect, mayHavePages } from "./files.js";
import { ask } from "./service.js";

// How a picture is called: for people, and in names of files, without suffix.
export const titleOf = ({ name, page }) => (page === null ? name : `${name} · page ${page + 1}`);
export const stemOf = ({ name, page }) =>
  name.replace(/\.[^./]*$/, "") + (page === null ? "" : `_page${String(page + 1).padStart(4, "0")}`);

// Super-resolve a picture. settings: {model, window}; options: {signal, priority, wantsLr, seen}; seen: what
// `decode` returned for it, if it was called already.
// Returns {sr, headers, tookMs, kind, seen}: the SR, the headers of its answer, milliseconds, the kind of
// file, and what the service decoded where the browser cannot show the file and the LR is wanted, else null;
// {pageCount} alone for a file with several images. Throws Problem or WrongFile.
export async function superResolve(picture, settings, { signal, priority, wantsLr = true, seen = null }) {
  const { blob, name, page } = picture;
  const kind = await inspect(blob, name);
  const isPage = page !== null;
  if (!seen && (isPage || (kind.unshown && wantsLr) || (kind.type === "image/tiff" && await mayHavePages(blob)))) {
    seen = await decode(picture, settings, { signal, priority });
    if (!isPage && seen.pageCount > 1) return { pageCount: seen.pageCount };
  }
  const headers = { "Content-Type": kind.type, Accept: "image/png" };
  if (priority) headers["X-Priority"] = priority;
  if (kind.mayBeDeep && settings.window) headers["X-Window"] = settings.window;
  if (isPage) {
    // The 8 bits that the service has made of this page are what the model gets.
    headers["Content-Type"] = "image/png";
    delete headers["X-Window"];
  }
  const startedAt = performance.now();
  const response = await ask(`superresolve${query({ model: settings.model })}`, {
    method: "POST", body: isPage ? seen.blob : blob, headers, signal,
  });
  const sr = await response.blob();
  return { sr, headers: response.headers, tookMs: performance.now() - startedAt, kind, seen: wantsLr ? seen : null };
}

// What the service makes of a file, as a PNG: {blob, pageCount, isDeep, range, window}. range: the lowest and
// the highest grey level in the file; window: the one that was applied, or null.
export async function decode({ blob, name, page }, settings, { signal, priority }) {
  const { type, mayBeDeep } = await inspect(blob, name);
  const headers = { "Content-Type": type, Accept: "image/png" };
  if (priority) headers["X-Priority"] = priority;
  if (mayBeDeep && settings.window) headers["X-Window"] = settings.window;
  const response = await ask(`decode${query({ model: settings.model, page })}`, { method: "POST", body: blob, headers, signal });
  const pair = (header) => response.headers.get(header)?.split(",").map(Number) ?? null;
  return {
    blob: await response.blob(),
    pageCount: Number(response.headers.get("x-page-count")),
    isDeep: response.headers.get("x-stored-dtype") === "uint16",
    range: pair("x-stored-range"),
    window: pair("x-window"),
  };
}

function query(values) {
  const given = Object.entries(values).filter(([, value]) => value !== null && value !== "");
  return given.length ? `?${new URLSearchParams(given)}` : "";
}
