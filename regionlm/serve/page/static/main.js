/** Puts the page together. */

import { byId, say } from "./dom.js";
import { listen } from "./keyboard.js";
import { attempt, complain, hide, listenForAnswers } from "./messages.js";
import { heated } from "./paint.js";
import { Panel } from "./panel.js";
import { pictureIn, readPicture } from "./pictures.js";
import { Questions } from "./questions.js";
import { saveJson, savePicture } from "./saving.js";
import { Stage } from "./stage.js";
import { Store } from "./store.js";
import { Tools } from "./tools.js";
import { labels } from "./words.js";

const store = new Store();
const stage = new Stage(byId("stage"), store);
const questions = new Questions(store);
const tools = new Tools(stage, store, { grow, say });
new Panel(store);

async function open(blob, name) {
  try {
    const picture = await readPicture(blob, name);
    hide();
    store.open(picture);
    const size = picture.note ?? `${picture.width} × ${picture.height} pixels`;
    say(`${picture.name}, ${size}. Paint over something.`);
    byId("stage").focus({ preventScroll: true });
  } catch (error) {
    complain(error.message);
  }
}

async function openExample(name) {
  await attempt(async () => {
    const reply = await fetch(`page/examples/${name}.jpg`);
    if (reply.ok) await open(await reply.blob(), `${name}.jpg`);
    else complain("The example can't be loaded.");
  });
}

async function grow(points) {
  let rle = null;
  say("Looking for what you clicked …");
  await attempt(async () => {
    const { region, note } = await questions.grow(points);
    rle = region.rle;
    say(note ?? "");
  });
  if (!rle) say("");
  return rle;
}

function caption() {
  if (!store.regions.length || questions.isWriting) return;
  const running = attempt(() => questions.caption());
  showButtons();
  running.finally(showButtons);
}

function compare(event) {
  event.preventDefault();
  const texts = labels(byId("labels").value);
  if (texts.length) attempt(() => questions.match(texts));
  else complain("Type a word or two, separated by commas.");
}

function newRegion() {
  store.select(null);
  say("The next stroke begins a new region.");
}

function takeTool(name) {
  document.querySelector(`input[name=tool][value=${name}]`).checked = true;
  tools.take(name);
  byId("brush-row").hidden = name === "box" || name === "click";
  byId("mode-row").hidden = !byId("brush-row").hidden;
}

function setBrush(value) {
  const slider = byId("brush");
  slider.value = value;
  tools.brush = Number(slider.value);
  slider.setAttribute("aria-valuetext", `${slider.value}% of the image`);
}

let heatFor = null; // address of the map that is shown
async function showHeat() {
  const answer = store.selected && store.answer(store.selected);
  const opacity = Number(byId("heat").value) / 100;
  const wanted = answer?.heatmap ?? null;
  byId("heat-row").hidden = !wanted || (wanted === heatFor && !stage.heat);
  byId("heat").setAttribute("aria-valuetext", opacity ? `map at ${byId("heat").value}%` : "hidden");
  stage.heatOpacity = opacity;
  if (wanted !== heatFor) {
    heatFor = wanted;
    stage.heat = null;
    const map = wanted && (await heated(wanted));
    if (heatFor === wanted) stage.heat = isOfPicture(map) ? map : null;
    byId("heat-row").hidden = !stage.heat;
  }
  stage.draw();
}

/** A LLaVA's map lies on its own crop of the picture, so it is not shown. */
function isOfPicture(map) {
  return map?.width === store.picture.width && map.height === store.picture.height;
}

function showButtons() {
  const { regions } = store;
  const count = questions.waiting.length || regions.length;
  byId("undo").disabled = !store.canUndo;
  byId("redo").disabled = !store.canRedo;
  for (const id of ["caption", "compare", "save-json", "save-picture"]) {
    byId(id).disabled = !regions.length;
  }
  byId("new-region").disabled = !store.selected;
  const all = questions.waiting.length ? "" : " again";
  const what = count > 1 ? `Caption ${count} regions` : "Caption";
  byId("caption").textContent = questions.isWriting ? "Stop" : what + all;
}

store.addEventListener("picture", () => {
  byId("empty").hidden = true;
  byId("stage").hidden = byId("tools").hidden = false;
});
for (const name of ["regions", "answers"]) {
  store.addEventListener(name, showButtons);
  store.addEventListener(name, showHeat);
}

for (const id of ["file", "camera"]) {
  byId(id).addEventListener("change", ({ target }) => {
    if (target.files.length) open(target.files[0], target.files[0].name);
    target.value = "";
  });
}
for (const button of document.querySelectorAll("[data-example]")) {
  button.addEventListener("click", () => openExample(button.dataset.example));
}
document.addEventListener("paste", (event) => {
  const file = pictureIn(event.clipboardData);
  if (file) open(file, file.name || "pasted.png");
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  byId("frame").classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) byId("frame").classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  byId("frame").classList.remove("over");
  const file = pictureIn(event.dataTransfer);
  if (file) open(file, file.name);
  else complain("What was dropped is not an image file.");
});

for (const input of document.querySelectorAll("input[name=tool]")) {
  input.addEventListener("change", () => takeTool(input.value));
}
for (const input of document.querySelectorAll("input[name=mode]")) {
  input.addEventListener("change", () => (tools.mode = input.value));
}
byId("brush").addEventListener("input", ({ target }) => setBrush(target.value));
byId("heat").addEventListener("input", showHeat);
byId("undo").addEventListener("click", () => store.undo());
byId("redo").addEventListener("click", () => store.redo());
byId("new-region").addEventListener("click", newRegion);
byId("caption").addEventListener("click", () => (questions.isWriting ? questions.stop() : caption()));
byId("labels-form").addEventListener("submit", compare);
byId("save-json").addEventListener("click", () => saveJson(store));
byId("save-picture").addEventListener("click", () => {
  savePicture(store, stage.heatOpacity ? stage.heat : null, stage.heatOpacity);
});
byId("help-button").addEventListener("click", () => byId("help").showModal());

setBrush(byId("brush").value);
listenForAnswers();
listen({
  editor: byId("editor"),
  stage: byId("stage"),
  tools,
  store,
  act: {
    takeTool,
    brush: (by) => setBrush(Number(byId("brush").value) + 2 * by),
    newRegion,
    remove: () => store.selected && store.remove(store.selectedId),
    undo: () => store.undo(),
    redo: () => store.redo(),
    caption,
    stop: () => {
      tools.cancel();
      questions.stop();
    },
    help: () => byId("help").showModal(),
  },
});
