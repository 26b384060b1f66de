// Small charts on canvases, in the page's own colours (custom properties of page.css).

export function start(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  return { context, width, height, style: getComputedStyle(canvas) };
}

// Two histograms of 256 grey levels as shares of their pictures; either may be null. levels: those
// shown black and white, or null.
export function drawHistogram(canvas, left, right, levels = null) {
  const { context, width, height, style } = start(canvas);
  const floor = height - 14;
  context.font = `10px ${style.fontFamily}`;
  context.fillStyle = style.getPropertyValue("--muted");
  for (const [level, align] of [[0, "left"], [64, "center"], [128, "center"], [192, "center"], [255, "right"]]) {
    context.textAlign = align;
    context.fillText(String(level), (level / 255) * width, height - 2);
  }
  context.fillRect(0, floor, width, 1);
  const series = [[left, "--lr"], [right, "--sr"]].filter(([one]) => one);
  const shares = series.map(([one]) => Array.from(one.counts, (count) => count / one.total));
  const top = Math.max(...shares.flat());
  // By the root, or the peak of a blank background would flatten everything else.
  const heightOf = (share) => Math.sqrt(share / top) * (floor - 4);
  shares.forEach((share, i) => {
    const colour = style.getPropertyValue(series[i][1]);
    context.beginPath();
    context.moveTo(0, floor);
    share.forEach((value, level) => {
      const y = floor - heightOf(value);
      context.lineTo((level / 256) * width, y);
      context.lineTo(((level + 1) / 256) * width, y);
    });
    context.lineTo(width, floor);
    context.strokeStyle = context.fillStyle = colour;
    context.globalAlpha = 0.18;
    context.fill();
    context.globalAlpha = 1;
    context.lineWidth = 1.25;
    context.stroke();
  });
  if (!levels || (levels.black === 0 && levels.white === 255)) return;
  // What lies outside is shown black or white.
  context.fillStyle = style.getPropertyValue("--muted");
  context.globalAlpha = 0.25;
  context.fillRect(0, 0, (levels.black / 256) * width, floor);
  context.fillRect(((levels.white + 1) / 256) * width, 0, width, floor);
  context.globalAlpha = 1;
}

// A line over time; `points` are numbers or null, newest last, `room` how many fit.
export function drawTrend(canvas, points, room) {
  const { context, width, height, style } = start(canvas);
  const top = Math.max(1, ...points.filter((value) => value !== null));
  context.strokeStyle = style.getPropertyValue("--accent");
  context.lineWidth = 1.25;
  context.beginPath();
  let isPen = false;
  points.forEach((value, i) => {
    if (value === null) {
      isPen = false;
      return;
    }
    const x = width - ((points.length - 1 - i) / (room - 1)) * width;
    const y = height - 1 - (value / top) * (height - 3);
    if (isPen) context.lineTo(x, y);
    else context.moveTo(x, y);
    isPen = true;
  });
  context.stroke();
}
