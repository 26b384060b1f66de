// Files that the page makes: the view as PNG with its caption, and any other content.

const LINE_PX = 19;
const PAD_PX = 10;

// Let the browser save content under a name.
export function offer(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  // The download has begun by then; a URL that is revoked at once may not be read.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

// The view as it is seen, with the names of its sides and a caption below. lines: of the caption;
// names: of the left and right side, the left null where there is none.
export async function viewAsPng(viewer, { lines, names }) {
  const { canvas: seen, ratio } = viewer;
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d");
  const font = `${13 * ratio}px "DejaVu Sans", system-ui, sans-serif`;
  context.font = font;
  const wrapped = lines.flatMap((line) => wrap(context, line, seen.width - 2 * PAD_PX * ratio));
  canvas.width = seen.width;
  canvas.height = seen.height + (wrapped.length * LINE_PX + 2 * PAD_PX) * ratio;
  context.font = font; // a new size resets it
  context.textBaseline = "middle";
  context.fillStyle = "#000";
  context.fillRect(0, 0, canvas.width, seen.height);
  context.drawImage(seen, 0, 0);
  context.drawImage(viewer.over.canvas, 0, 0);
  const [left, right] = names;
  for (const [name, isLeft] of [[left, true], [right, false]].filter(([text]) => text)) {
    const width = context.measureText(name).width + 12 * ratio;
    const x = isLeft ? 8 * ratio : canvas.width - width - 8 * ratio;
    context.fillStyle = "#000c";
    context.fillRect(x, 8 * ratio, width, 22 * ratio);
    context.fillStyle = isLeft ? "#f0b65c" : "#74d0ea";
    context.fillText(name, x + 6 * ratio, 19 * ratio);
  }
  context.fillStyle = "#fff";
  context.fillRect(0, seen.height, canvas.width, canvas.height - seen.height);
  context.fillStyle = "#111";
  wrapped.forEach((line, i) => {
    context.fillText(line, PAD_PX * ratio, seen.height + (PAD_PX + (i + 0.5) * LINE_PX) * ratio);
  });
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}

function wrap(context, text, width) {
  const lines = [""];
  for (const word of text.split(" ")) {
    const longer = `${lines[lines.length - 1]} ${word}`.trim();
    if (context.measureText(longer).width <= width || !lines[lines.length - 1]) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}
