// The worker that compares pictures, as one call.

const waiting = new Map();
const worker = new Worker(new URL("page/worker.js", document.baseURI), { type: "module" });

worker.addEventListener("message", ({ data }) => {
  const { resolve, reject } = waiting.get(data.id);
  waiting.delete(data.id);
  if (data.error) reject(new Error(data.error));
  else resolve(data);
});
worker.addEventListener("error", (event) => {
  for (const { reject } of waiting.values()) reject(new Error(event.message ?? "the worker could not start"));
  waiting.clear();
});

// pictures: as the worker's own `compare` takes and describes them.
export function compare(pictures) {
  const id = crypto.getRandomValues(new Uint32Array(1))[0];
  return new Promise((resolve, reject) => {
    waiting.set(id, { resolve, reject });
    worker.postMessage({ id, ...pictures });
  });
}
