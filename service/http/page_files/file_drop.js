// Files that people drop, paste or choose, with the folders in them, as [{blob, name}, …].

import { hasKnownSuffix } from "./files.js";

export const MOST_FILES = 5000; // a list of more is unusable; a scan takes any number

const $ = (id) => document.getElementById(id);

// take({files, leftOut}): called for files that are chosen, dropped anywhere on the page, or pasted.
export function listenForFiles(take) {
  for (const id of ["file", "folder"]) {
    $(id).addEventListener("change", (event) => {
      const found = chosenFiles(event.target.files);
      event.target.value = ""; // the same file can be chosen again
      take(found);
    });
  }
  // The whole page takes a dropped file, or the browser would leave it for the file.
  for (const kind of ["dragenter", "dragover"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      $("stage").classList.add("over");
    });
  }
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) $("stage").classList.remove("over");
  });
  document.addEventListener("drop", async (event) => {
    event.preventDefault();
    $("stage").classList.remove("over");
    take(await filesOf(event.dataTransfer));
  });
  document.addEventListener("paste", async (event) => {
    const found = await filesOf(event.clipboardData);
    if (found.files.length) take(found);
  });
}

// transfer: DataTransfer of a drop or a paste. Returns {files, leftOut}: the number of files in folders
// whose suffix is not that of a picture, or that exceed MOST_FILES. Call it within the event.
async function filesOf(transfer) {
  // The entries are gone once the event has ended.
  const items = Array.from(transfer.items ?? []).filter(({ kind }) => kind === "file")
    .map((item) => ({ entry: item.webkitGetAsEntry?.(), file: item.getAsFile() }));
  const found = { files: [], leftOut: 0 };
  for (const { entry, file } of items) {
    if (entry?.isDirectory) await walk(entry, found);
    else if (file) add(found, file, file.name);
  }
  return found;
}

// files: of an input; those of a chosen folder have a path.
function chosenFiles(files) {
  const found = { files: [], leftOut: 0 };
  for (const file of files) {
    const path = file.webkitRelativePath;
    if (path && !hasKnownSuffix(path)) found.leftOut++;
    else add(found, file, path || file.name);
  }
  found.files.sort(byName);
  return found;
}

async function walk(folder, found) {
  const reader = folder.createReader();
  const entries = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // at most 100
    if (!some.length) break;
    entries.push(...some);
  }
  for (const entry of entries.sort(byName)) {
    if (entry.isDirectory) await walk(entry, found);
    else if (!hasKnownSuffix(entry.name)) found.leftOut++;
    else add(found, await new Promise((resolve, reject) => entry.file(resolve, reject)), entry.fullPath.slice(1));
  }
}

function add(found, blob, name) {
  if (found.files.length < MOST_FILES) found.files.push({ blob, name });
  else found.leftOut++;
}

const byName = (a, b) => a.name.localeCompare(b.name, "en", { numeric: true });
