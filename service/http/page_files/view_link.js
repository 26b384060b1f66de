// The view as a link: named values in the fragment of the address, which the browser sends to no server.
//
//   register(name, read, write)   a part of the view; modules register theirs once, when they start
//   changed()                     a part has changed: the address follows
//   link()                        the address that reopens this view
//
// read() returns the part as text, or "" for its default, which the link leaves out. write(text) applies
// the text of a link, "" for the default. It checks the text, because links come from anywhere, and it
// may be called before there is a picture. A module that registers late gets its value at once.

const VERSION = "1";
const MAX_LENGTH = 2000; // characters of a fragment; longer ones are not read
const WAIT_MS = 300; // browsers limit how often an address may change

const parts = new Map();
let written = location.hash;
let given = parse(location.hash);
let timer = null;

export function register(name, read, write) {
  if (parts.has(name)) throw new Error(`the view has a part ${name} already`);
  parts.set(name, { read, write });
  if (given.has(name)) write(given.get(name));
}

export function changed() {
  clearTimeout(timer);
  timer = setTimeout(() => {
    written = fragment();
    // Only a fragment: the page works behind a proxy's prefix. Without one, the address ends at its path.
    history.replaceState(null, "", written || location.pathname + location.search);
  }, WAIT_MS);
}

export function link() {
  return new URL(fragment() || location.pathname, location.href).href;
}

// Whether an address has a fragment that is not applied: of another version, damaged or far too long.
export function isUnknown(hash = location.hash) {
  return hash.length > 1 && parse(hash).size === 0;
}

window.addEventListener("hashchange", () => {
  if (location.hash === written) return;
  written = location.hash;
  given = parse(location.hash);
  for (const [name, { write }] of parts) write(given.get(name) ?? "");
});

function fragment() {
  const values = new URLSearchParams({ v: VERSION });
  for (const [name, { read }] of parts) {
    const text = read();
    if (text) values.set(name, text);
  }
  return values.size > 1 ? `#${values}` : "";
}

function parse(hash) {
  if (hash.length > MAX_LENGTH) return new Map();
  const values = new Map(new URLSearchParams(hash.slice(1)));
  return values.get("v") === VERSION ? values : new Map();
}
