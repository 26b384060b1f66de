// The type of a file by its first bytes, and whether a browser shows its grey levels unchanged.

const MAGIC = [
  ["image/png", [0x89, 0x50, 0x4e, 0x47]],
  ["image/jpeg", [0xff, 0xd8, 0xff]],
  ["image/bmp", [0x42, 0x4d]],
  ["image/tiff", [0x49, 0x49, 0x2a, 0x00]],
  ["image/tiff", [0x4d, 0x4d, 0x00, 0x2a]],
  ["image/tiff", [0x49, 0x49, 0x2b, 0x00]],
  ["image/tiff", [0x4d, 0x4d, 0x00, 0x2b]],
  ["application/x-npy", [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59]],
];
const PNG_DEPTH_AT = 24; // signature, then length, type, width and height of IHDR

// Returns {type, unshown, mayBeDeep}: the content type to send, why the browser cannot show the file
// ("" where it can), and whether it may hold 16 bits, which a window maps to 8.
export async function inspect(blob) {
  const head = new Uint8Array(await blob.slice(0, 32).arrayBuffer());
  const found = MAGIC.find(([, magic]) => magic.every((byte, i) => head[i] === byte));
  const type = found?.[0] ?? (blob.type || "application/octet-stream");
  if (type === "image/tiff") return { type, unshown: "browsers do not show TIFF", mayBeDeep: true };
  if (type === "application/x-npy") return { type, unshown: "browsers do not show npy", mayBeDeep: true };
  if (type === "image/png" && head[PNG_DEPTH_AT] === 16) {
    return { type, unshown: "browsers do not show 16-bit PNG in its grey window", mayBeDeep: true };
  }
  return { type, unshown: found ? "" : "the browser does not know this file", mayBeDeep: false };
}
