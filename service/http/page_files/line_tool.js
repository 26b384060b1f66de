// A line on the pictures: drawn, moved and bent by pointer and keys.

const HANDLE_PX = 12;
const TOUCH_PX = 26;

export class LineTool {
  // onChange(): the line has changed.
  constructor(viewer, { onChange }) {
    this.viewer = viewer;
    this.onChange = onChange;
    this.line = null; // {from: [x, y], to: [x, y]} in SR pixels
    this.width = 9; // lines averaged
    this.held = null;
  }

  set(line) {
    this.line = line && { from: this.#inside(line.from), to: this.#inside(line.to) };
    this.onChange();
    this.viewer.draw();
  }

  // A line through the middle of what is seen.
  across(isVertical) {
    const { viewer } = this;
    const [pane] = viewer.panes();
    const [x, y] = viewer.centre;
    const [dx, dy] = isVertical ? [0, 0.4 * (pane.h / viewer.zoom)] : [0.4 * (pane.w / viewer.zoom), 0];
    this.set({ from: [x - dx, y - dy], to: [x + dx, y + dy] });
  }

  // --- what the viewer calls ---

  grab(at, event) {
    const reach = (event.pointerType === "touch" ? TOUCH_PX : HANDLE_PX) * this.viewer.ratio;
    const pane = this.viewer.paneAt(at[0]);
    this.pane = pane;
    this.held = this.#handleAt(at, pane, reach);
    this.before = this.line;
    const place = this.viewer.toPictureIn(at, pane);
    if (!this.held) {
      this.line = { from: this.#inside(place), to: this.#inside(place) };
      this.held = "to";
    }
    this.last = place;
    return true;
  }

  drag(at, event) {
    if (!this.line) return; // the picture was taken away meanwhile
    let place = this.viewer.toPictureIn(at, this.pane);
    if (this.held === "all") {
      const move = [0, 1].map((i) => place[i] - this.last[i]);
      this.last = place;
      this.#move(move);
      return;
    }
    if (event.shiftKey) place = snapped(this.line[this.held === "to" ? "from" : "to"], place);
    this.set({ ...this.line, [this.held]: place });
  }

  drop() {
    if (!this.line) return;
    const { from, to } = this.line;
    // A click draws nothing: the previous line stays.
    const isClick = Math.hypot(to[0] - from[0], to[1] - from[1]) * this.viewer.zoom < 4 * this.viewer.ratio;
    const line = isClick ? (this.before ?? null) : this.line;
    this.before = this.held = null;
    this.set(line);
  }

  nudge(move) {
    if (this.line) this.#move(move);
  }

  cursor(at) {
    const handle = this.line && this.#handleAt(at, this.viewer.paneAt(at[0]), HANDLE_PX * this.viewer.ratio);
    return handle ? "move" : "crosshair";
  }

  paint() {
    if (!this.line) return;
    const { over: context, ratio, zoom } = this.viewer;
    for (const pane of this.viewer.panes()) {
      const [from, to] = [this.line.from, this.line.to].map((end) => this.viewer.toScreen(end, pane));
      context.save();
      context.beginPath();
      context.rect(pane.x, pane.y, pane.w, pane.h);
      context.clip();
      const length = Math.hypot(to[0] - from[0], to[1] - from[1]) || 1;
      const aside = [(-(to[1] - from[1]) / length), (to[0] - from[0]) / length].map((part) => (part * this.width * zoom) / 2);
      for (const [style, width] of [["#000b", 3], ["#7df58f", 1.25]]) {
        context.strokeStyle = style;
        context.lineWidth = width * ratio;
        context.beginPath();
        context.moveTo(...from);
        context.lineTo(...to);
        context.stroke();
        if (this.width > 1) {
          // The band that is averaged.
          context.setLineDash([5 * ratio, 4 * ratio]);
          context.beginPath();
          for (const side of [1, -1]) {
            context.moveTo(from[0] + side * aside[0], from[1] + side * aside[1]);
            context.lineTo(to[0] + side * aside[0], to[1] + side * aside[1]);
          }
          context.stroke();
          context.setLineDash([]);
        }
      }
      for (const end of [from, to]) {
        context.fillStyle = "#7df58f";
        context.strokeStyle = "#000";
        context.beginPath();
        context.arc(...end, 5 * ratio, 0, 2 * Math.PI);
        context.fill();
        context.stroke();
      }
      context.restore();
    }
  }

  // --- geometry ---

  #handleAt(at, pane, reach) {
    if (!this.line) return null;
    const [from, to] = [this.line.from, this.line.to].map((end) => this.viewer.toScreen(end, pane));
    const distance = (end) => Math.hypot(at[0] - end[0], at[1] - end[1]);
    if (distance(to) < reach) return "to";
    if (distance(from) < reach) return "from";
    const along = [to[0] - from[0], to[1] - from[1]];
    const share = ((at[0] - from[0]) * along[0] + (at[1] - from[1]) * along[1]) / (along[0] ** 2 + along[1] ** 2 || 1);
    const foot = [from[0] + share * along[0], from[1] + share * along[1]];
    return share > 0 && share < 1 && distance(foot) < reach / 2 ? "all" : null;
  }

  #move([dx, dy]) {
    const { width, height } = this.viewer.right;
    const { from, to } = this.line;
    // As far as the whole line stays inside: neither its length nor its angle changes.
    const limit = (move, a, b, size) => Math.min(size - Math.max(a, b), Math.max(-Math.min(a, b), move));
    const move = [limit(dx, from[0], to[0], width), limit(dy, from[1], to[1], height)];
    this.set({ from: from.map((value, i) => value + move[i]), to: to.map((value, i) => value + move[i]) });
  }

  #inside([x, y]) {
    const { width, height } = this.viewer.right;
    return [Math.min(width, Math.max(0, x)), Math.min(height, Math.max(0, y))];
  }
}

// The end of a line at a multiple of 45 degrees.
function snapped(anchor, [x, y]) {
  const [dx, dy] = [x - anchor[0], y - anchor[1]];
  const angle = (Math.round((4 * Math.atan2(dy, dx)) / Math.PI) * Math.PI) / 4;
  const length = dx * Math.cos(angle) + dy * Math.sin(angle);
  return [anchor[0] + length * Math.cos(angle), anchor[1] + length * Math.sin(angle)];
}
