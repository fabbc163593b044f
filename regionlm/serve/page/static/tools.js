/** Paint, erase, box and click, with a pointer or with the keyboard. */

import { apply, area, blank, decode, encode, fillBox, stroke } from "./mask.js";

const NOTHING = "Nothing to take away: choose a region first.";
const CHANGED = "The region has changed meanwhile, so this was dropped.";

export class Tools {
  name = "paint"; // or erase, box, click
  mode = "new"; // of box and click: a new region, "add" to the selected one or "cut" from it
  brush = 5; // per cent of the picture's longer side
  #drawing = null; // the stroke or box under way
  #isGrowing = false; // while the server looks for what was clicked
  #keys = null; // the keyboard's pointer, in pixels of the picture

  /** grow(points) gives the run-length code of the region that they mark; attempt(action) may repeat it. */
  constructor(stage, store, { grow, attempt, say }) {
    Object.assign(this, { stage, store, grow, attempt, say });
    const on = (name, listener) => stage.canvas.addEventListener(name, listener);
    on("pointerdown", (event) => this.#down(event));
    on("pointermove", (event) => this.#move(event));
    on("pointerup", (event) => this.#up(event));
    on("pointercancel", () => this.cancel());
    on("pointerleave", () => this.#point(null));
    on("blur", () => this.#forgetKeys());
    store.addEventListener("picture", () => this.cancel());
    store.addEventListener("regions", () => this.#dropIfChanged());
  }

  get radius() {
    const { width, height } = this.store.picture;
    return Math.max(0.8, (this.brush / 200) * Math.max(width, height));
  }

  /** Change the tool; a box begun with the keyboard is dropped. */
  take(name) {
    this.name = name;
    this.cancel();
  }

  /** Give up the stroke or box under way. */
  cancel() {
    this.#drawing = null;
    this.stage.draft = this.stage.frame = null;
    if (this.#keys) this.#keys = { x: this.#keys.x, y: this.#keys.y };
    this.stage.draw();
  }

  /** Move the keyboard's pointer, by shares of the picture's longer side. */
  nudge(dx, dy) {
    const { width, height } = this.store.picture;
    const step = Math.max(width, height);
    const { x, y, down } = this.#keys ?? { x: width / 2, y: height / 2 };
    const from = { x, y };
    const to = {
      x: Math.min(width, Math.max(0, x + dx * step)),
      y: Math.min(height, Math.max(0, y + dy * step)),
    };
    this.#keys = { ...to, down };
    if (down) this.#draw(from, to);
    this.#point(to);
  }

  /** What Space does: begin and end a stroke or box, or click. */
  press({ add = false, cut = false } = {}) {
    if (!this.#keys) this.nudge(0, 0);
    const { down, ...place } = this.#keys;
    if (down) {
      this.#keys = place;
      this.#end(place);
    } else if (this.#begin(place, add, cut)) {
      this.#keys = { ...place, down: true };
      const begun = this.name === "box" ? "First corner set." : "Drawing.";
      this.say(`${begun} Move, then press Space to end.`);
    }
  }

  #forgetKeys() {
    if (this.#keys?.down) this.cancel();
    this.#point(null);
  }

  #down(event) {
    if (!this.store.picture || event.button !== 0 || !event.isPrimary) return;
    event.preventDefault();
    this.stage.canvas.focus({ preventScroll: true });
    this.stage.canvas.setPointerCapture(event.pointerId);
    this.#keys = null;
    this.#begin(this.stage.place(event), event.shiftKey, event.altKey);
  }

  #move(event) {
    if (!this.store.picture) return;
    const to = this.stage.place(event);
    if (this.#drawing) this.#draw(this.#drawing.last, to);
    this.#point(event.pointerType === "touch" ? null : to);
  }

  #up(event) {
    if (this.#drawing) this.#end(this.stage.place(event));
  }

  #point(place) {
    const hasRadius = this.name === "paint" || this.name === "erase";
    this.stage.cursor = place && { ...place, radius: hasRadius ? this.radius : 0 };
    this.stage.draw();
  }

  /** Begin at a place; false where nothing remains to be drawn. */
  #begin(place, add, cut) {
    const mode = cut ? "cut" : add ? "add" : this.mode;
    if (this.name === "click") {
      this.#click(place, mode);
      return false;
    }
    const changed = this.#changed(this.name === "box" ? mode : "add");
    const removes = this.name === "erase" || (this.name === "box" && mode === "cut");
    if (removes && !changed) {
      this.say(NOTHING);
      return false;
    }
    this.#drawing = { changed, value: removes ? 0 : 1, first: place, last: place };
    if (this.name !== "box") {
      const mask = changed ? decode(changed.rle) : blank(this.store.picture);
      this.stage.begin(mask, changed?.colour ?? this.store.nextColour, changed?.id);
    }
    this.#draw(place, place);
    return true;
  }

  #draw(from, to) {
    this.#drawing.last = to;
    if (this.name === "box") {
      this.stage.frame = { from: this.#drawing.first, to };
      this.stage.draw();
      return;
    }
    const { mask } = this.stage.draft;
    this.stage.redraft(stroke(mask, this.store.picture, from, to, this.radius, this.#drawing.value));
  }

  #end(place) {
    const { changed, first, value } = this.#drawing;
    let mask = this.stage.draft?.mask;
    if (this.name === "box") {
      mask = changed ? decode(changed.rle) : blank(this.store.picture);
      fillBox(mask, this.store.picture, first, place, value);
    }
    this.cancel();
    this.say("");
    this.#keep(changed, encode(mask, this.store.picture), null);
  }

  /** Undo or Delete may take away what a stroke or box under way is to change. */
  #dropIfChanged() {
    const changed = this.#drawing?.changed;
    if (!changed || this.store.find(changed.id)?.rle === changed.rle) return;
    this.cancel();
    this.say(CHANGED);
  }

  #click({ x, y }, mode) {
    const changed = this.#changed(mode);
    if (mode === "cut" && !changed) return this.say(NOTHING);
    if (this.#isGrowing) return;
    const { width, height } = this.store.picture;
    const point = [Math.min(x, width - 0.5), Math.min(y, height - 0.5)];
    this.attempt(() => this.#grow(point, mode, changed?.id ?? null));
  }

  /** Ask what was clicked, and keep it. Tried again after a failure, with the region as it is then. */
  async #grow(point, mode, id) {
    const { picture } = this.store;
    const before = this.store.find(id);
    if (id !== null && !before) return this.say(CHANGED);
    const isDrawn = before && !before.points; // what was clicked is then added to it or cut
    const cut = mode === "cut" ? [0] : [];
    const points = isDrawn ? [point] : [...(before?.points ?? []), [...point, ...cut]];
    this.#isGrowing = true;
    try {
      const grown = await this.grow(points);
      if (picture !== this.store.picture) return;
      const region = this.store.find(id); // which may have been painted on, or undone, meanwhile
      if (isDrawn && region) this.#combine(region, grown, mode);
      else if (region?.rle === before?.rle) this.#keep(region, grown, points);
      else this.say(CHANGED);
    } finally {
      this.#isGrowing = false;
    }
  }

  #combine(region, grown, mode) {
    const mask = decode(region.rle);
    apply(mask, decode(grown), mode === "cut" ? 0 : 1);
    this.#keep(region, encode(mask, this.store.picture), null);
  }

  #changed(mode) {
    return mode === "new" ? null : this.store.selected;
  }

  #keep(changed, rle, points) {
    if (changed) this.store.change(changed.id, { rle, points });
    else if (area(rle)) this.store.add(rle, points);
  }
}
