// Makes a zip in a worker: the checksums of hundreds of files would hold up the page.

import { makeZip } from "./zip.js";

self.addEventListener("message", async ({ data: files }) => {
  try {
    const zip = await makeZip(files, (done) => self.postMessage({ done }));
    self.postMessage({ zip });
  } catch (error) {
    self.postMessage({ error: error.message });
  }
});
