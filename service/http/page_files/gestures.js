// Pointer and keys on the viewer's canvas.

const STEP = 1.25;
const GRIP_PX = 14;

export function listenTo(viewer) {
  const { canvas } = viewer;
  const pointers = new Map();
  let held = null; // what a drag moves: "boundary", "tool", or null, the picture

  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) * viewer.ratio, (event.clientY - box.top) * viewer.ratio];
  };
  const isOnBoundary = ([x]) =>
    viewer.layout === "wipe" && viewer.left && Math.abs(x - viewer.split * canvas.width) < GRIP_PX * viewer.ratio;
  const cursorOf = (now) => viewer.tool?.cursor(now) || (isOnBoundary(now) ? "ew-resize" : "");

  function point(position) {
    const [x, y] = viewer.toPicture(position).map(Math.floor);
    const isInside = x >= 0 && y >= 0 && x < viewer.right.width && y < viewer.right.height;
    viewer.onChange({ zoom: viewer.zoom, at: isInside ? [x, y] : null });
  }

  function pinch(moved, before, now) {
    const [other] = [...pointers].filter(([id]) => id !== moved).map(([, position]) => position);
    const distance = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]) || 1;
    viewer.panBy((now[0] - before[0]) / 2, (now[1] - before[1]) / 2);
    viewer.zoomBy(distance(now, other) / distance(before, other), [(now[0] + other[0]) / 2, (now[1] + other[1]) / 2]);
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (!viewer.right || event.button > 0) return;
    canvas.setPointerCapture(event.pointerId);
    const now = at(event);
    if (pointers.size) {
      // A second finger zooms; what the first one began is left where it is.
      if (held === "tool") viewer.tool?.drop();
      held = null;
    } else if (viewer.tool?.grab(now, event)) held = "tool";
    else held = isOnBoundary(now) ? "boundary" : null;
    pointers.set(event.pointerId, now);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!viewer.right) return;
    const now = at(event);
    const before = pointers.get(event.pointerId);
    if (before) pointers.set(event.pointerId, now);
    if (!before) canvas.style.cursor = cursorOf(now);
    else if (held === "tool") viewer.tool?.drag(now, event);
    else if (held) viewer.onSplit(Math.min(1, Math.max(0, now[0] / canvas.width)));
    else if (pointers.size === 2) pinch(event.pointerId, before, now);
    else viewer.panBy(now[0] - before[0], now[1] - before[1]);
    point(now); // after the move: what lies below the pointer now
  });
  const release = (event) => {
    if (pointers.delete(event.pointerId) && held === "tool") viewer.tool?.drop();
    if (!pointers.size || held === "tool") held = null;
  };
  canvas.addEventListener("pointerup", release);
  canvas.addEventListener("pointercancel", release);
  canvas.addEventListener("pointerleave", () => viewer.onChange({ zoom: viewer.right ? viewer.zoom : null, at: null }));
  canvas.addEventListener("wheel", (event) => {
    if (!viewer.right) return;
    event.preventDefault();
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 30 : 1;
    viewer.zoomBy(Math.exp((-event.deltaY * lines) / 500), at(event));
  }, { passive: false });
  canvas.addEventListener("dblclick", (event) => {
    if (!viewer.tool) viewer.zoomBy(2, at(event));
  });
  canvas.addEventListener("keydown", (event) => {
    const step = 60 * viewer.ratio;
    const moves = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    if (!viewer.right || event.ctrlKey || event.metaKey || event.altKey) return;
    if (moves[event.key] && event.shiftKey && viewer.tool) viewer.tool.nudge(moves[event.key].map((move) => -Math.sign(move)));
    else if (moves[event.key]) viewer.panBy(...moves[event.key]);
    else if (event.key === "+" || event.key === "=") viewer.zoomBy(STEP);
    else if (event.key === "-") viewer.zoomBy(1 / STEP);
    else if (event.key === "0") viewer.fit();
    else if (event.key === "1") viewer.zoomTo(1);
    else return;
    event.preventDefault();
  });
}
