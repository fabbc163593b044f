/** Shows the picture, its regions, the relevance map and the pointer; tells tools where they are. */

import { sheet, tint, tinted } from "./paint.js";

export class Stage {
  heat = null; // a canvas of the picture's size
  heatOpacity = 0.6;
  draft = null; // {mask, colour, canvas}: a region while it is being painted
  frame = null; // {from, to}: a box while it is being drawn
  cursor = null; // {x, y, radius}: of keyboard or mouse, in the picture's pixels
  #wanted = false;

  constructor(canvas, store) {
    this.canvas = canvas;
    this.store = store;
    store.addEventListener("picture", () => this.#fit());
    store.addEventListener("regions", () => this.draw());
    new ResizeObserver(() => this.#fit()).observe(canvas);
  }

  /** Where a pointer event is, in pixels of the picture. */
  place(event) {
    const { left, top, width, height } = this.canvas.getBoundingClientRect();
    const picture = this.store.picture;
    return {
      x: ((event.clientX - left) / width) * picture.width,
      y: ((event.clientY - top) / height) * picture.height,
    };
  }

  /** Show a mask that is not yet a region's, in place of the region that it changes. */
  begin(mask, colour, replaces = null) {
    const { width, height } = this.store.picture;
    this.draft = { mask, colour, replaces, canvas: sheet(width, height) };
    this.redraft({ x0: 0, y0: 0, x1: width, y1: height });
  }

  /** Draw a changed part of it. */
  redraft(area) {
    tint(this.draft.canvas, this.draft.mask, this.draft.colour, area);
    this.draw();
  }

  /** Draw before the next frame. */
  draw() {
    if (this.#wanted) return;
    this.#wanted = true;
    requestAnimationFrame(() => {
      this.#wanted = false;
      if (this.store.picture) this.#paint();
    });
  }

  #fit() {
    const picture = this.store.picture;
    if (!picture) return;
    this.canvas.style.aspectRatio = `${picture.width} / ${picture.height}`;
    this.canvas.style.setProperty("--ratio", picture.width / picture.height);
    const { width, height } = this.canvas.getBoundingClientRect();
    const dense = window.devicePixelRatio || 1;
    this.canvas.width = Math.max(1, Math.round(width * dense));
    this.canvas.height = Math.max(1, Math.round(height * dense));
    this.draw();
  }

  #paint() {
    const { store, canvas } = this;
    const context = canvas.getContext("2d");
    const scale = canvas.width / store.picture.width;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.setTransform(scale, 0, 0, canvas.height / store.picture.height, 0, 0);
    drawScene(context, store.picture.image, store.picture, this.#layers());
    if (this.frame) this.#drawFrame(context, scale);
    for (const point of store.selected?.points ?? []) drawPoint(context, point, scale);
    if (this.cursor) this.#drawCursor(context, scale);
  }

  #layers() {
    const shown = this.store.regions.filter(({ id }) => !this.draft || id !== this.draft.replaces);
    const layers = shown.map((region) => ({
      canvas: tinted(region),
      opacity: region.id === this.store.selectedId ? 1 : 0.6,
    }));
    if (this.heat && !this.draft) layers.unshift({ canvas: this.heat, opacity: this.heatOpacity });
    return this.draft ? [...layers, { canvas: this.draft.canvas, opacity: 1 }] : layers;
  }

  #drawFrame(context, scale) {
    const { from, to } = this.frame;
    for (const [colour, dash] of [["#000", []], ["#fff", [6 / scale, 6 / scale]]]) {
      context.strokeStyle = colour;
      context.setLineDash(dash);
      context.lineWidth = 2 / scale;
      context.strokeRect(from.x, from.y, to.x - from.x, to.y - from.y);
    }
    context.setLineDash([]);
  }

  #drawCursor(context, scale) {
    const { x, y, radius } = this.cursor;
    for (const [colour, width] of [["rgb(0 0 0 / 0.7)", 3], ["#fff", 1.5]]) {
      context.strokeStyle = colour;
      context.lineWidth = width / scale;
      context.beginPath();
      if (radius) context.arc(x, y, radius, 0, 2 * Math.PI);
      const arm = 9 / scale;
      context.moveTo(x - arm, y);
      context.lineTo(x + arm, y);
      context.moveTo(x, y - arm);
      context.lineTo(x, y + arm);
      context.stroke();
    }
  }
}

/** Draw a picture with layers of its size over it. */
export function drawScene(context, image, { width, height }, layers) {
  context.drawImage(image, 0, 0, width, height);
  for (const { canvas, opacity } of layers) {
    context.globalAlpha = opacity;
    context.drawImage(canvas, 0, 0, width, height);
  }
  context.globalAlpha = 1;
}

function drawPoint(context, [x, y, label = 1], scale) {
  context.beginPath();
  context.arc(x, y, 5 / scale, 0, 2 * Math.PI);
  context.fillStyle = label ? "#12936a" : "#c0392b";
  context.fill();
  context.lineWidth = 2 / scale;
  context.strokeStyle = "#fff";
  context.stroke();
}
