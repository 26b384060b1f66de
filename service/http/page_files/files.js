// The type of a file by its first bytes: what is sent, what a browser shows, and what a wrong file is.

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
// Files that people open by mistake: first bytes, a noun with its article, and what helps.
const OTHERS = [
  ["%PDF", "a PDF document", "Export the picture from it as PNG or TIFF."],
  ["PK\x03\x04", "a zip archive or an Office document", "Unpack it and open the pictures in it."],
  ["\x1f\x8b", "a gzip archive", "Unpack it first."],
  ["GIF8", "a GIF", "Save it as PNG."],
  ["RIFF", "a WebP picture or a video", "Save it as PNG."],
  ["\x89HDF", "an HDF5 file", "A scan reads the tiles in it."],
  ["\0\0\0\x0cJXL ", "a JPEG XL picture", "Save it as PNG."],
  ["\xff\x0a", "a JPEG XL picture", "Save it as PNG."],
  ["\0\0\0\x0cjP  ", "a JPEG 2000 picture", "Save it as TIFF or PNG."],
  ["\0\0\0\x03", "a Gatan DM3 file", "Export it as TIFF."],
  ["\0\0\0\x04", "a Gatan DM4 file", "Export it as TIFF."],
  ["FileVersion", "a KLARF file", "A scan reads the tiles that it names."],
  ["<svg", "an SVG drawing", "Save it as PNG."],
  ["<", "a web page or XML", ""],
];
const ACCEPTED = "Accepted are PNG, TIFF, JPEG, BMP and npy with one grey channel of 8 or 16 bits.";
const SUFFIXES = /\.(png|tiff?|jpe?g|bmp|npy)$/i;
const PNG_DEPTH_AT = 24; // signature, then length, type, width and height of IHDR

// A file that the service does not read, found before it is sent. `words` is the short form of it.
export class WrongFile extends Error {
  constructor(words, detail) {
    super(detail);
    Object.assign(this, { words, detail });
  }
}

// Returns {type, unshown, mayBeDeep}: the content type to send, why the browser cannot show the file
// ("" where it can), and whether it may hold 16 bits, which a window maps to 8. Throws WrongFile.
export async function inspect(blob, name) {
  const head = new Uint8Array(await blob.slice(0, 64).arrayBuffer());
  const type = MAGIC.find(([, magic]) => magic.every((byte, i) => head[i] === byte))?.[0];
  if (type === "image/tiff") return { type, unshown: "browsers do not show TIFF", mayBeDeep: true };
  if (type === "application/x-npy") return { type, unshown: "browsers do not show npy", mayBeDeep: true };
  if (type === "image/png" && head[PNG_DEPTH_AT] === 16) {
    return { type, unshown: "browsers do not show 16-bit PNG in its grey window", mayBeDeep: true };
  }
  if (type) return { type, unshown: "", mayBeDeep: false };
  if (!head.length) throw new WrongFile("This file is empty.", `${name} has 0 bytes. ${ACCEPTED}`);
  const start = String.fromCharCode(...head);
  const [, what, help] = OTHERS.find(([magic]) => start.startsWith(magic)) ?? [];
  if (what) throw new WrongFile(`This is ${what}, not a picture of a tile.`, `${name}: ${ACCEPTED} ${help}`.trim());
  if (/^[\t\r\n\x20-\x7e]*$/.test(start)) {
    throw new WrongFile("This is a text file, not a picture of a tile.", `${name}: ${ACCEPTED}`);
  }
  const bytes = Array.from(head.slice(0, 8), (byte) => byte.toString(16).padStart(2, "0")).join(" ");
  throw new WrongFile("This is not a picture that the service reads.",
    `${name} begins with the bytes ${bytes}, like none of the accepted types. ${ACCEPTED}`);
}

export const hasKnownSuffix = (name) => SUFFIXES.test(name) && !/(^|\/)\.[^/]*$/.test(name);

// Whether a TIFF has a second directory, which is a page, a thumbnail or a mask: the service counts the pages.
export async function mayHavePages(blob) {
  const read = async (at, size) => new DataView(await blob.slice(at, at + size).arrayBuffer());
  try {
    const head = await read(0, 16);
    const isLittle = head.getUint8(0) === 0x49;
    const isBig = head.getUint16(2, isLittle) === 43;
    const number = (view, at) => (isBig ? Number(view.getBigUint64(at, isLittle)) : view.getUint32(at, isLittle));
    const first = number(head, isBig ? 8 : 4);
    const count = await read(first, isBig ? 8 : 2);
    const entries = isBig ? number(count, 0) : count.getUint16(0, isLittle);
    const next = first + (isBig ? 8 + 20 * entries : 2 + 12 * entries);
    return number(await read(next, isBig ? 8 : 4), 0) > 0;
  } catch {
    return false; // damaged: the service says how
  }
}
