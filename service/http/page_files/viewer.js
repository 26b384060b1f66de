// Two pictures of one size on one canvas, by a wipe or side by side, always moved and zoomed together.

const MIN_ZOOM = 1 / 32;
const MAX_ZOOM = 64;
const STEP = 1.25;
const GRIP_PX = 14;

export class Viewer {
  // onChange({zoom, at}): zoom in device pixels per picture pixel, and the position of the pointer.
  constructor(canvas, { onChange, onSplit }) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.onChange = onChange;
    this.onSplit = onSplit;
    this.left = null; // {bitmap, width, height} in picture pixels; the bitmap may be coarser
    this.right = null;
    this.layout = "wipe";
    this.split = 0.5;
    this.isFitted = true;
    this.zoom = 1;
    this.centre = [0, 0];
    this.pointers = new Map();
    this.grips = false;
    new ResizeObserver(() => this.#resize()).observe(canvas);
    this.#listen();
  }

  show(left, right, { keepView = false } = {}) {
    const isSame = keepView && this.right?.width === right.width && this.right?.height === right.height;
    this.left = left;
    this.right = right;
    if (isSame) this.draw();
    else this.fit();
  }

  clear() {
    this.left = this.right = null;
    this.draw();
  }

  setSplit(share) {
    this.split = share;
    this.draw();
  }

  // The share of the canvas' width at which a column of the picture is seen.
  shareAt(x) {
    const [pane] = this.#panes();
    const at = pane.x + pane.w / 2 + (x - this.centre[0]) * this.zoom;
    return Math.min(1, Math.max(0, at / this.canvas.width));
  }

  setLayout(layout) {
    this.layout = layout;
    if (this.isFitted) this.fit();
    else this.draw();
  }

  fit() {
    this.isFitted = true;
    if (this.right) {
      const [pane] = this.#panes();
      const { width, height } = this.right;
      this.zoom = Math.max(MIN_ZOOM, Math.min(pane.w / width, pane.h / height));
      this.centre = [width / 2, height / 2];
    }
    this.draw();
  }

  zoomTo(zoom, around = null) {
    if (!this.right) return;
    const next = Math.min(MAX_ZOOM, Math.max(MIN_ZOOM, zoom));
    if (around) {
      // The picture pixel under the pointer stays there.
      const [px, py] = this.#toPicture(around);
      this.centre = [
        px + (this.centre[0] - px) * (this.zoom / next),
        py + (this.centre[1] - py) * (this.zoom / next),
      ];
    }
    this.zoom = next;
    this.isFitted = false;
    this.#clamp();
    this.draw();
  }

  zoomBy(factor, around = null) {
    this.zoomTo(this.zoom * factor, around);
  }

  panBy(dx, dy) {
    this.centre = [this.centre[0] - dx / this.zoom, this.centre[1] - dy / this.zoom];
    this.isFitted = false;
    this.#clamp();
    this.draw();
  }

  draw() {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.#paint());
  }

  // --- geometry, in device pixels ---

  get ratio() {
    return window.devicePixelRatio || 1;
  }

  #panes() {
    const { width: W, height: H } = this.canvas;
    if (this.layout === "side" && this.left) {
      const half = Math.floor(W / 2);
      return [{ x: 0, y: 0, w: half - 1, h: H }, { x: half + 1, y: 0, w: W - half - 1, h: H }];
    }
    return [{ x: 0, y: 0, w: W, h: H }];
  }

  #paneAt(x) {
    const panes = this.#panes();
    return panes.find((pane) => x < pane.x + pane.w) ?? panes[panes.length - 1];
  }

  #toPicture([x, y]) {
    const pane = this.#paneAt(x);
    return [
      this.centre[0] + (x - pane.x - pane.w / 2) / this.zoom,
      this.centre[1] + (y - pane.y - pane.h / 2) / this.zoom,
    ];
  }

  #clamp() {
    const size = [this.right.width, this.right.height];
    this.centre = this.centre.map((value, i) => Math.min(size[i], Math.max(0, value)));
  }

  #resize() {
    const width = Math.max(1, Math.round(this.canvas.clientWidth * this.ratio));
    const height = Math.max(1, Math.round(this.canvas.clientHeight * this.ratio));
    if (width === this.canvas.width && height === this.canvas.height) return;
    this.canvas.width = width;
    this.canvas.height = height;
    if (this.isFitted) this.fit();
    // At once: an observer runs before the paint, so that the emptied canvas is never seen.
    this.#paint();
  }

  // --- painting ---

  #paint() {
    const { context, canvas } = this;
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (this.right) {
      const panes = this.#panes();
      if (panes.length === 2) {
        this.#paintPicture(this.left, panes[0], panes[0]);
        this.#paintPicture(this.right, panes[1], panes[1]);
      } else {
        const at = this.left ? Math.round(this.split * canvas.width) : 0;
        const [pane] = panes;
        if (this.left) this.#paintPicture(this.left, pane, { ...pane, w: at });
        this.#paintPicture(this.right, pane, { ...pane, x: at, w: canvas.width - at });
        if (this.left) this.#paintBoundary(at);
      }
    }
    this.onChange({ zoom: this.right ? this.zoom : null });
  }

  #paintPicture({ bitmap, width, height }, pane, clip) {
    if (clip.w <= 0) return;
    const { context, zoom } = this;
    const left = pane.x + pane.w / 2 - this.centre[0] * zoom;
    const top = pane.y + pane.h / 2 - this.centre[1] * zoom;
    // Only what the pane shows, from whole bitmap pixels: at 64× the whole picture is a huge target.
    // Not what the clip shows: the boundary's place must not change how pixels are resampled.
    const [sx, sy] = [bitmap.width / width, bitmap.height / height];
    const x0 = Math.max(0, Math.floor(((pane.x - left) / zoom) * sx));
    const y0 = Math.max(0, Math.floor(((pane.y - top) / zoom) * sy));
    const x1 = Math.min(bitmap.width, Math.ceil(((pane.x + pane.w - left) / zoom) * sx));
    const y1 = Math.min(bitmap.height, Math.ceil(((pane.y + pane.h - top) / zoom) * sy));
    if (x1 <= x0 || y1 <= y0) return;
    context.save();
    context.beginPath();
    context.rect(clip.x, clip.y, clip.w, clip.h);
    context.clip();
    // From two screen pixels a bitmap pixel on, pixels are seen as they are.
    context.imageSmoothingEnabled = zoom / sx < 2;
    context.imageSmoothingQuality = "high";
    context.drawImage(
      bitmap, x0, y0, x1 - x0, y1 - y0,
      left + (x0 / sx) * zoom, top + (y0 / sy) * zoom, ((x1 - x0) / sx) * zoom, ((y1 - y0) / sy) * zoom,
    );
    context.restore();
  }

  #paintBoundary(at) {
    const { context, canvas, ratio } = this;
    context.fillStyle = "#000a";
    context.fillRect(at - 1.5 * ratio, 0, 3 * ratio, canvas.height);
    context.fillStyle = "#fff";
    context.fillRect(at - 0.5 * ratio, 0, ratio, canvas.height);
  }

  // --- pointer and keyboard ---

  #listen() {
    const { canvas } = this;
    const at = (event) => {
      const box = canvas.getBoundingClientRect();
      return [(event.clientX - box.left) * this.ratio, (event.clientY - box.top) * this.ratio];
    };
    const isOnBoundary = ([x]) =>
      this.layout === "wipe" && this.left && Math.abs(x - this.split * canvas.width) < GRIP_PX * this.ratio;

    canvas.addEventListener("pointerdown", (event) => {
      if (!this.right || event.button > 0) return;
      canvas.setPointerCapture(event.pointerId);
      this.grips = !this.pointers.size && isOnBoundary(at(event));
      this.pointers.set(event.pointerId, at(event));
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!this.right) return;
      const now = at(event);
      const before = this.pointers.get(event.pointerId);
      if (before) this.pointers.set(event.pointerId, now);
      if (!before) canvas.style.cursor = isOnBoundary(now) ? "ew-resize" : "";
      else if (this.grips) this.onSplit(Math.min(1, Math.max(0, now[0] / canvas.width)));
      else if (this.pointers.size === 2) this.#pinch(event.pointerId, before, now);
      else this.panBy(now[0] - before[0], now[1] - before[1]);
      this.#point(now); // after the move: what lies below the pointer now
    });
    const release = (event) => {
      this.pointers.delete(event.pointerId);
      this.grips = this.grips && this.pointers.size > 0;
    };
    canvas.addEventListener("pointerup", release);
    canvas.addEventListener("pointercancel", release);
    canvas.addEventListener("pointerleave", () => this.onChange({ zoom: this.right ? this.zoom : null, at: null }));
    canvas.addEventListener("wheel", (event) => {
      if (!this.right) return;
      event.preventDefault();
      const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 30 : 1;
      this.zoomBy(Math.exp((-event.deltaY * lines) / 500), at(event));
    }, { passive: false });
    canvas.addEventListener("dblclick", (event) => this.zoomBy(2, at(event)));
    canvas.addEventListener("keydown", (event) => {
      const step = 60 * this.ratio;
      const moves = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
      if (!this.right || event.ctrlKey || event.metaKey || event.altKey) return;
      if (moves[event.key]) this.panBy(...moves[event.key]);
      else if (event.key === "+" || event.key === "=") this.zoomBy(STEP);
      else if (event.key === "-") this.zoomBy(1 / STEP);
      else if (event.key === "0") this.fit();
      else if (event.key === "1") this.zoomTo(1);
      else return;
      event.preventDefault();
    });
  }

  #pinch(moved, before, now) {
    const [other] = [...this.pointers].filter(([id]) => id !== moved).map(([, position]) => position);
    const distance = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]) || 1;
    this.panBy((now[0] - before[0]) / 2, (now[1] - before[1]) / 2);
    this.zoomBy(distance(now, other) / distance(before, other), [(now[0] + other[0]) / 2, (now[1] + other[1]) / 2]);
  }

  #point(position) {
    const [x, y] = this.#toPicture(position).map(Math.floor);
    const isInside = x >= 0 && y >= 0 && x < this.right.width && y < this.right.height;
    this.onChange({ zoom: this.zoom, at: isInside ? [x, y] : null });
  }
}
