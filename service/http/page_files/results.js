// The results of a list as files: their names, and the table of flags and errors, as CSV and JSON.

import { stemOf } from "./picture.js";
import { readQuality } from "./service.js";

const FORMAT_VERSION = 1;
const FLAGS = ["consistency", "consistency-worst", "residual", "domain-distance", "saturated", "non-finite"];
const COLUMNS = [
  "source", "page", "output", "state", "model", "model_version", "window", "shape", "pixel_size_nm",
  ...FLAGS.map((flag) => flag.replace("-", "_")), "request_id", "error",
];

// The flags of an answer that are beyond their limit of 1: [[short name, value], …].
export function flagsOf(headers) {
  const quality = readQuality(headers.get("x-quality"));
  return [["residual", quality.residual], ["domain", quality["domain-distance"]]].filter(([, value]) => value > 1);
}

// entries: of the list. Returns [{name, blob, date}, …]: each SR, results.csv and results.json.
export function resultFiles(entries, window) {
  const taken = new Set(["results.csv", "results.json"]);
  const date = new Date();
  const files = [];
  const rows = entries.map((entry) => {
    const row = rowOf(entry, window);
    if (entry.answer) {
      row.output = uniqueName(entry, taken);
      files.push({ name: row.output, blob: entry.answer.sr, date });
    }
    return row;
  });
  const json = JSON.stringify({ format: "semsr-page-results", format_version: FORMAT_VERSION, results: rows }, null, 1);
  const lines = [COLUMNS, ...rows.map((row) => COLUMNS.map((column) => row[column] ?? ""))];
  // The mark at the start makes spreadsheets read UTF-8.
  const csv = `\ufeff${lines.map((cells) => cells.map(csvCell).join(",")).join("\r\n")}\r\n`;
  files.push({ name: "results.csv", blob: new Blob([csv], { type: "text/csv" }), date });
  files.push({ name: "results.json", blob: new Blob([json], { type: "application/json" }), date });
  return files;
}

function rowOf({ name, page, state, answer, error }, window) {
  const row = { source: name, page: page === null ? null : page + 1, output: null, state, error: null };
  if (error) {
    row.error = [error.words, error.detail].filter(Boolean).join(" ");
    row.request_id = error.requestId || null;
  }
  if (!answer) return row;
  const { headers } = answer;
  const quality = readQuality(headers.get("x-quality"));
  Object.assign(row, {
    model: headers.get("x-model"), model_version: headers.get("x-model-version"),
    window: answer.kind.mayBeDeep ? window || null : null, shape: headers.get("x-tile-shape"),
    pixel_size_nm: headers.get("x-pixel-size-nm"), request_id: headers.get("x-request-id"),
  });
  for (const flag of FLAGS) row[flag.replace("-", "_")] = quality[flag] ?? null;
  return row;
}

// The source's own name with the SR's suffix; without parts that lead out of the folder it is unpacked in.
function uniqueName({ name, page }, taken) {
  const parts = name.replaceAll("\\", "/").split("/").filter((part) => part && part !== "." && part !== "..");
  // Characters and names that Windows does not take would stop the unpacking there.
  const safe = parts.map((part) => part.replace(/[\x00-\x1f<>:"|?*]/g, "_").replace(/^(con|prn|aux|nul|com\d|lpt\d)(?=\.|$)/i, "_$1"));
  const stem = stemOf({ name: safe.join("/") || "picture", page });
  for (let copy = 1; ; copy++) {
    const output = `${stem}${copy > 1 ? ` (${copy})` : ""}.png`;
    const key = output.toLowerCase(); // file systems of Windows and macOS do not tell case apart
    if (taken.has(key)) continue;
    taken.add(key);
    return output;
  }
}

function csvCell(value) {
  let text = String(value);
  // A name that begins like a formula must stay text in a spreadsheet.
  if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
