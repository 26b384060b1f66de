// Two pictures of one size on one canvas, by a wipe or side by side, always moved and zoomed together.

import { listenTo } from "./gestures.js";

const MIN_ZOOM = 1 / 32;
const MAX_ZOOM = 64;

export class Viewer {
  // onChange({zoom, at}): zoom in device pixels per picture pixel, and the position of the pointer.
  // onPaint(viewer): paints on `over`, the canvas of the same size above the pictures.
  constructor(canvas, over, { onChange, onSplit, onPaint }) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.over = over.getContext("2d");
    this.onChange = onChange;
    this.onSplit = onSplit;
    this.onPaint = onPaint;
    this.tool = null; // takes the pointer first: {grab(point, at), drag(at, event), drop(), cursor(at)}
    this.left = null; // {bitmap, width, height} in picture pixels; the bitmap may be coarser
    this.right = null;
    this.layout = "wipe";
    this.split = 0.5;
    this.isFitted = true;
    this.zoom = 1;
    this.centre = [0, 0];
    new ResizeObserver(() => this.#resize()).observe(canvas);
    listenTo(this);
  }

  show(left, right, { keepView = false } = {}) {
    const size = `${right.width}×${right.height}`;
    const isSame = keepView && this.size === size;
    this.size = size; // of the picture that was shown last: there may be none in between
    this.left = left;
    this.right = right;
    if (isSame && !this.isFitted) this.draw();
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
    const [pane] = this.panes();
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
      const [pane] = this.panes();
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
      const [px, py] = this.toPicture(around);
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

  // The centre of the view, in picture pixels, with its zoom; and back.
  get place() {
    return { zoom: this.zoom, centre: [...this.centre], isFitted: this.isFitted };
  }

  goTo({ zoom = this.zoom, centre = this.centre, isFitted = false }) {
    if (!this.right) return;
    if (isFitted) {
      this.fit();
      return;
    }
    this.centre = [...centre];
    this.zoomTo(zoom);
  }

  draw() {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.#paint());
  }

  // --- geometry, in device pixels ---

  get ratio() {
    return window.devicePixelRatio || 1;
  }

  panes() {
    const { width: W, height: H } = this.canvas;
    if (this.layout === "side" && this.left) {
      const half = Math.floor(W / 2);
      return [{ x: 0, y: 0, w: half - 1, h: H }, { x: half + 1, y: 0, w: W - half - 1, h: H }];
    }
    return [{ x: 0, y: 0, w: W, h: H }];
  }

  // Where a position in the picture is seen in a pane.
  toScreen([x, y], pane) {
    return [pane.x + pane.w / 2 + (x - this.centre[0]) * this.zoom, pane.y + pane.h / 2 + (y - this.centre[1]) * this.zoom];
  }

  paneAt(x) {
    const panes = this.panes();
    return panes.find((pane) => x < pane.x + pane.w) ?? panes[panes.length - 1];
  }

  toPicture(at) {
    return this.toPictureIn(at, this.paneAt(at[0]));
  }

  toPictureIn([x, y], pane) {
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
    // The boundary stays at its column of the picture, unless one side is shown alone.
    const isBetween = this.right && this.layout === "wipe" && this.split > 0 && this.split < 1;
    const column = isBetween ? this.toPicture([this.split * this.canvas.width, 0])[0] : null;
    this.canvas.width = width;
    this.canvas.height = height;
    this.over.canvas.width = width;
    this.over.canvas.height = height;
    if (this.isFitted) this.fit();
    if (isBetween) this.onSplit(this.shareAt(column));
    // At once: an observer runs before the paint, so that the emptied canvas is never seen.
    this.#paint();
  }

  // --- painting ---

  #paint() {
    const { context, canvas } = this;
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (this.right) {
      const panes = this.panes();
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
    this.over.clearRect(0, 0, canvas.width, canvas.height);
    if (this.right) this.onPaint(this);
    this.onChange({ zoom: this.right ? this.zoom : null });
  }

  #paintPicture({ bitmap, width, height }, pane, clip) {
    if (clip.w <= 0) return;
    const { context, zoom } = this;
    // On whole screen pixels: at 1:1 half a pixel of shift would blur the picture.
    const left = Math.round(pane.x + pane.w / 2 - this.centre[0] * zoom);
    const top = Math.round(pane.y + pane.h / 2 - this.centre[1] * zoom);
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
}
