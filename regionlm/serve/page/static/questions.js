/** Asks the server about the picture and its regions, and keeps the answers in the store. */

import { announce } from "./dom.js";
import { ask, stream } from "./server.js";

export class Questions {
  #waiting = new Set(); // {kind, control} of each question that has no answer yet

  constructor(store) {
    this.store = store;
    store.addEventListener("picture", () => this.giveUp());
  }

  /** Whether a question waits for its answer: of kind "captions", "words" or "click". */
  waits(kind) {
    return [...this.#waiting].some((question) => question.kind === kind);
  }

  /** Give up the questions of a kind, or all. */
  giveUp(kind = null) {
    for (const question of this.#waiting) {
      if (kind === null || kind === question.kind) question.control.abort();
    }
  }

  /** What action(signal) gives; giveUp() aborts the signal. */
  async #asking(kind, action) {
    const question = { kind, control: new AbortController() };
    this.#waiting.add(question);
    try {
      return await action(question.control.signal);
    } finally {
      this.#waiting.delete(question);
    }
  }

  /** Regions that have no caption for their present shape. */
  get uncaptioned() {
    return this.store.regions.filter((region) => !this.store.answer(region)?.caption);
  }

  /** Caption what has none yet, or all regions if all have one; a caption stays until the next is whole. */
  caption() {
    const regions = this.uncaptioned.length ? this.uncaptioned : this.store.regions;
    return this.#asking("captions", (signal) => this.#write(regions, signal));
  }

  async #write(regions, signal) {
    const { store } = this;
    for (const region of regions) store.learn(region, { writing: "" });
    try {
      const question = { ...this.#about(regions), heatmap: true };
      for await (const { event, data } of stream("v1/caption", question, signal)) {
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
      for (const region of regions) store.learn(region, { writing: null });
    }
  }

  /** Which of some words fits each region. */
  async match(texts) {
    const { regions } = this.store;
    const question = { ...this.#about(regions), texts };
    const answer = await this.#asking("words", (signal) => ask("v1/match", question, signal));
    regions.forEach((region, index) => {
      const { probabilities } = answer.regions[index];
      this.store.learn(region, { labels: { texts, probabilities } });
    });
  }

  /** {region, note}: the region that points mark. */
  grow(points) {
    const question = { image: this.store.picture.uri, points };
    return this.#asking("click", (signal) => ask("v1/segment", question, signal));
  }

  #about(regions) {
    return {
      image: this.store.picture.uri,
      regions: regions.map(({ rle, name }) => ({ rle, id: name })),
    };
  }
}
