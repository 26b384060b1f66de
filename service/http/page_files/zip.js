// A zip archive without compression (PNG is compressed already), made of blobs: no file is copied in memory.

const MAX_BYTES = 0xffffffff; // beyond it, and beyond MAX_FILES, a zip needs fields that are not written here
const MAX_FILES = 0xffff;
const UTF8_NAMES = 0x0800;
const VERSION = 20;

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

export function crc32(bytes) {
  let crc = 0xffffffff;
  for (let i = 0; i < bytes.length; i++) crc = (crc >>> 8) ^ CRC_TABLE[(crc ^ bytes[i]) & 0xff];
  return (crc ^ 0xffffffff) >>> 0;
}

// files: [{name, blob, date}, …], names unique. Returns a Blob; one file at a time is in memory.
// Throws an Error for an archive beyond 65,535 files or 4 GiB.
export async function makeZip(files, onProgress = () => {}) {
  if (files.length > MAX_FILES) throw new Error(`${files.length} files are too many for one zip; at most ${MAX_FILES} fit`);
  const parts = [];
  const directory = [];
  let at = 0;
  let directorySize = 0;
  for (const [index, { name, blob, date }] of files.entries()) {
    const text = new TextEncoder().encode(name);
    const crc = crc32(new Uint8Array(await blob.arrayBuffer()));
    const common = [VERSION, UTF8_NAMES, 0, ...dosTime(date)];
    const head = record(
      [4, 0x04034b50], ...common.map((value) => [2, value]), [4, crc], [4, blob.size], [4, blob.size], [2, text.length], [2, 0],
    );
    const central = record(
      [4, 0x02014b50], [2, VERSION], ...common.map((value) => [2, value]), [4, crc], [4, blob.size], [4, blob.size],
      [2, text.length], [2, 0], [2, 0], [2, 0], [2, 0], [4, 0], [4, at],
    );
    parts.push(head, text, blob);
    directory.push(central, text);
    at += head.length + text.length + blob.size;
    directorySize += central.length + text.length;
    if (at + directorySize > MAX_BYTES) throw new Error("the results exceed 4 GiB, the most that one zip holds; save them in parts");
    onProgress(index + 1);
  }
  const end = record(
    [4, 0x06054b50], [2, 0], [2, 0], [2, files.length], [2, files.length], [4, directorySize], [4, at], [2, 0],
  );
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

// Little-endian numbers, each given as [bytes, value].
function record(...fields) {
  const bytes = new Uint8Array(fields.reduce((sum, [size]) => sum + size, 0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const [size, value] of fields) {
    if (size === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += size;
  }
  return bytes;
}

function dosTime(date) {
  const time = (date.getHours() << 11) | (date.getMinutes() << 5) | (date.getSeconds() >> 1);
  const day = ((Math.max(1980, date.getFullYear()) - 1980) << 9) | ((date.getMonth() + 1) << 5) | date.getDate();
  return [time, day];
}
