/** The list of regions, with what is known of each. */

import { arrange, byId, make } from "./dom.js";
import { about, likely, looks } from "./words.js";

export class Panel {
  #renaming = null; // {id, head}: the region whose name is being changed, and what holds the field

  constructor(store) {
    this.store = store;
    store.addEventListener("picture", () => (this.#renaming = null));
    for (const name of ["picture", "regions", "answers"]) {
      store.addEventListener(name, () => this.#show());
    }
  }

  #show() {
    const list = byId("regions");
    const held = document.activeElement?.closest?.("#regions [data-key]")?.dataset.key;
    if (this.#renaming && !this.store.find(this.#renaming.id)) this.#renaming = null;
    arrange(list, this.store.regions.map((region) => this.#item(region)));
    byId("no-regions").hidden = this.store.regions.length > 0;
    const next = held && list.querySelector(`[data-key="${held}"]`);
    (next ?? (held && list.querySelector("[data-key]")))?.focus(); // a keyboard keeps its place
  }

  #item(region) {
    const isSelected = region.id === this.store.selectedId;
    const answer = this.store.answer(region);
    const head = this.#head(region, isSelected);
    const item = head.parentElement ?? make("li"); // a field that is typed in stays where it is
    item.className = isSelected ? "region selected" : "region";
    item.style.setProperty("--colour", region.colour);
    arrange(item, [head, ...(answer ? this.#answer(answer, isSelected) : [])]);
    return item;
  }

  #head(region, isSelected) {
    if (this.#renaming?.id === region.id) return this.#renaming.head;
    const select = make(
      "button",
      { type: "button", className: "name", "aria-pressed": String(isSelected) },
      region.name,
    );
    select.dataset.key = `select-${region.id}`;
    select.addEventListener("click", () => this.store.select(isSelected ? null : region.id));
    select.addEventListener("dblclick", () => this.#rename(region));
    const rename = this.#button(region, "rename", "Rename", () => this.#rename(region));
    const remove = this.#button(region, "remove", "Delete", () => this.store.remove(region.id));
    return make("div", { className: "head" }, select, rename, remove);
  }

  #button(region, key, verb, listener) {
    const label = `${verb} ${region.name}`;
    const button = make("button", { type: "button", className: "quiet", "aria-label": label }, verb);
    button.dataset.key = `${key}-${region.id}`;
    button.addEventListener("click", listener);
    return button;
  }

  #rename(region) {
    const field = this.#nameField(region);
    this.#renaming = { id: region.id, head: make("div", { className: "head" }, field) };
    this.#show();
    field.focus();
    field.select();
  }

  #nameField(region) {
    const label = `New name of ${region.name}`;
    const field = make("input", { value: region.name, maxLength: 60, "aria-label": label });
    field.dataset.key = `select-${region.id}`;
    const end = (keep) => {
      if (this.#renaming?.head !== field.parentElement) return;
      this.#renaming = null;
      const name = field.value.trim();
      if (keep && name && name !== region.name) this.store.change(region.id, { name });
      else this.#show();
    };
    field.addEventListener("blur", () => end(true));
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter") end(true);
      if (event.key !== "Escape") return;
      event.stopPropagation(); // it gives up the name, and nothing else
      end(false);
    });
    return field;
  }

  #answer(answer, isSelected) {
    const text = answer.writing ?? answer.caption;
    const isWriting = answer.writing !== null && answer.writing !== undefined;
    const parts = [];
    if (text || isWriting) {
      parts.push(make("p", { className: isWriting ? "caption writing" : "caption" }, text || "…"));
    }
    if (answer.caption && isSelected && !isWriting) parts.push(trust(answer));
    if (answer.labels) parts.push(bars(answer.labels, isSelected ? Infinity : 1));
    return parts;
  }
}

function trust(answer) {
  const said = [looks(answer), about(answer), likely(answer)].filter(Boolean);
  const lines = said.map(({ level, text, detail }) =>
    make("li", { className: level, title: detail }, text),
  );
  return make("ul", { className: "trust" }, ...lines);
}

/** Words with their probabilities, most likely first, no more than `most`. */
function bars({ texts, probabilities }, most) {
  const order = texts.map((_, index) => index).sort((a, b) => probabilities[b] - probabilities[a]);
  const rows = order.slice(0, most).map((index) => {
    const share = `${(100 * probabilities[index]).toFixed(1)}%`;
    const bar = make("span", { className: "bar", "aria-hidden": "true" }, make("span"));
    bar.firstChild.style.inlineSize = share;
    const text = make("span", { className: "text" }, texts[index]);
    return make("li", {}, text, make("span", { className: "share" }, share), bar);
  });
  return make("ol", { className: "bars" }, ...rows);
}
