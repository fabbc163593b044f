/** Asks the server about the picture and its regions, and keeps the answers in the store. */

import { announce } from "./dom.js";
import { ask, stream } from "./server.js";

export class Questions {
  #stop = null; // of the captions being written
  #stopGrowing = null; // of the region that was clicked last

  constructor(store) {
    this.store = store;
    store.addEventListener("picture", () => {
      this.stop();
      this.stopGrowing();
    });
  }

  get isWriting() {
    return this.#stop !== null;
  }

  /** Regions that have no caption for their present shape. */
  get waiting() {
    return this.store.regions.filter((region) => !this.store.answer(region)?.caption);
  }

  stop() {
    this.#stop?.abort();
  }

  stopGrowing() {
    this.#stopGrowing?.abort();
  }

  /** Caption what has none yet, or all regions if all have one; a caption stays until the next is whole. */
  async caption() {
    const regions = this.waiting.length ? this.waiting : this.store.regions;
    const { store } = this;
    this.#stop = new AbortController();
    for (const region of regions) store.learn(region, { writing: "" });
    try {
      const question = { ...this.#about(regions), heatmap: true };
      for await (const { event, data } of stream("v1/caption", question, this.#stop.signal)) {
        const region = regions[data.index];
        if (event === "done") store.model = data.model ?? store.model;
        if (event === "piece") {
          store.learn(region, { writing: store.answer(region).writing + data.text });
        }
        if (event === "region") {
          store.learn(region, { ...data, writing: null });
          announce(`${region.name}: ${data.caption}`);
        }
      }
    } finally {
      this.#stop = null;
      for (const region of regions) store.learn(region, { writing: null });
    }
  }

  /** Which of some words fits each region. */
  async match(texts) {
    const { regions } = this.store;
    const answer = await ask("v1/match", { ...this.#about(regions), texts });
    regions.forEach((region, index) => {
      const { probabilities } = answer.regions[index];
      this.store.learn(region, { labels: { texts, probabilities } });
    });
  }

  /** {region, note}: the region that points mark. */
  async grow(points) {
    this.#stopGrowing = new AbortController();
    const question = { image: this.store.picture.uri, points };
    return ask("v1/segment", question, this.#stopGrowing.signal);
  }

  #about(regions) {
    return {
      image: this.store.picture.uri,
      regions: regions.map(({ rle, name }) => ({ rle, id: name })),
    };
  }
}
