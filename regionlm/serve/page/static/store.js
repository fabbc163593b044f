/** What the page knows: the picture, its regions with undo and redo, and what the server said. */

import { area } from "./mask.js";

/** Told apart on light and dark pictures, and by people who see few colours. */
export const COLOURS = ["#2f7de1", "#e4572e", "#8b5cf6", "#12936a", "#d6337c", "#c2900a"];

const STEPS = 100; // that can be undone

/**
 * A picture is {name, width, height, image, uri, opened}; a region is {id, name, colour, rle, points},
 * never changed in place. Fires "picture", "regions" and "answers".
 */
export class Store extends EventTarget {
  picture = null;
  regions = [];
  selectedId = null;
  model = null;
  #past = [];
  #future = [];
  #made = 0;
  #answers = new WeakMap(); // by run-length code: an answer holds for one shape, also after undo

  get selected() {
    return this.find(this.selectedId);
  }

  /** A region as it is now; null where there is none, or none any more. */
  find(id) {
    return this.regions.find((region) => region.id === id) ?? null;
  }

  /** Colour of the region that is added next. */
  get nextColour() {
    return COLOURS[this.#made % COLOURS.length];
  }

  get canUndo() {
    return this.#past.length > 0;
  }

  get canRedo() {
    return this.#future.length > 0;
  }

  /** Begin with another picture and, where it is opened again, its regions. */
  open(picture, regions = [], made = regions.length) {
    this.picture = picture;
    this.regions = regions;
    this.selectedId = regions.at(-1)?.id ?? null;
    this.#past = [];
    this.#future = [];
    this.#made = made;
    this.#fire("picture");
    this.#fire("regions");
  }

  /** Add a region; it is selected. */
  add(rle, points = null) {
    const colour = this.nextColour;
    const number = ++this.#made;
    const region = { id: number, name: `Region ${number}`, colour, rle, points };
    this.#commit([...this.regions, region], region.id);
    return region;
  }

  /** Give a region other properties; one whose shape has no pixel left is removed. */
  change(id, properties) {
    if (!this.find(id)) return; // nor is there anything to undo
    if (properties.rle && area(properties.rle) === 0) return this.remove(id);
    const regions = this.regions.map((one) => (one.id === id ? { ...one, ...properties } : one));
    this.#commit(regions, id);
  }

  remove(id) {
    const index = this.regions.findIndex((region) => region.id === id);
    if (index < 0) return;
    const left = this.regions.filter((region) => region.id !== id);
    const neighbour = left[Math.min(index, left.length - 1)]?.id ?? null;
    this.#commit(left, id === this.selectedId ? neighbour : this.selectedId);
  }

  /** Choose the region that painting changes; null: the next stroke begins a new one. */
  select(id) {
    if (id === this.selectedId) return;
    this.selectedId = id;
    this.#fire("regions");
  }

  undo() {
    this.#step(this.#past, this.#future);
  }

  redo() {
    this.#step(this.#future, this.#past);
  }

  answer(region) {
    return this.#answers.get(region.rle) ?? null;
  }

  /** Add to what is known of a region's shape. */
  learn(region, facts) {
    this.#answers.set(region.rle, { ...this.answer(region), ...facts });
    this.#fire("answers");
  }

  #commit(regions, selectedId) {
    this.#past.push(this.#now());
    if (this.#past.length > STEPS) this.#past.shift();
    this.#future = [];
    this.#show({ regions, selectedId });
  }

  #step(from, to) {
    if (!from.length) return;
    to.push(this.#now());
    this.#show(from.pop());
  }

  #now() {
    return { regions: this.regions, selectedId: this.selectedId };
  }

  #show({ regions, selectedId }) {
    this.regions = regions;
    this.selectedId = selectedId;
    this.#fire("regions");
  }

  #fire(name) {
    this.dispatchEvent(new Event(name));
  }
}
