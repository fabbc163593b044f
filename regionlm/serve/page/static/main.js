/** Puts the page together. */

import { byId, say } from "./dom.js";
import { listen } from "./keyboard.js";
import { attempt, complain, hide, listenForAnswers } from "./messages.js";
import { heated } from "./paint.js";
import { Panel } from "./panel.js";
import { pictureIn, readPicture } from "./pictures.js";
import { Questions } from "./questions.js";
import { saveJson, savePicture } from "./saving.js";
import { load, ServerError } from "./server.js";
import { Stage } from "./stage.js";
import { Store } from "./store.js";
import { Tools } from "./tools.js";
import { labels } from "./words.js";

const store = new Store();
const stage = new Stage(byId("stage"), store);
const questions = new Questions(store);
const tools = new Tools(stage, store, { grow, attempt, say });
new Panel(store);

let chosen = null; // the image chosen last: one that takes longer to open must not replace it

/** Open an image; find() gives its blob. */
async function open(name, find) {
  const choice = (chosen = {});
  try {
    const picture = await readPicture(await find(), name);
    if (choice === chosen) show(picture);
  } catch (error) {
    if (choice !== chosen) return;
    if (error instanceof ServerError) throw error; // it can be tried again
    complain(error.message);
  }
}

function show(picture) {
  hide();
  store.open(picture);
  const size = picture.note ?? `${picture.width} × ${picture.height} pixels`;
  say(`${picture.name}, ${size}. Paint over something.`);
  byId("stage").focus({ preventScroll: true });
}

function openFile(file, name = file.name) {
  return open(name, () => file);
}

function openExample(name) {
  const file = `${name}.jpg`;
  return attempt(() => open(file, () => load(`page/examples/${file}`)));
}

async function grow(points) {
  const { picture } = store;
  say("Looking for what you clicked …");
  try {
    const { region, note } = await questions.grow(points);
    say(note ?? "");
    return region.rle;
  } catch (error) {
    if (picture === store.picture) say(""); // not over what is said of the next picture
    throw error;
  }
}

function caption() {
  if (!store.regions.length || questions.waits("captions")) return;
  put(() => questions.caption());
}

function compare() {
  const texts = labels(byId("labels").value);
  if (texts.length) put(() => questions.match(texts));
  else complain("Type a word or two, separated by commas.");
}

/** Put a question, whose button stops it until the answer is there. */
function put(question) {
  const answered = attempt(question);
  showButtons();
  answered.finally(showButtons);
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
  const left = questions.uncaptioned.length;
  const count = left || regions.length;
  byId("undo").disabled = !store.canUndo;
  byId("redo").disabled = !store.canRedo;
  for (const id of ["caption", "compare", "save-json", "save-picture"]) {
    byId(id).disabled = !regions.length;
  }
  byId("new-region").disabled = !store.selected;
  const what = (count > 1 ? `Caption ${count} regions` : "Caption") + (left ? "" : " again");
  byId("caption").textContent = questions.waits("captions") ? "Stop" : what;
  byId("compare").textContent = questions.waits("words") ? "Stop" : "Compare";
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
    if (target.files.length) openFile(target.files[0]);
    target.value = "";
  });
}
for (const button of document.querySelectorAll("[data-example]")) {
  button.addEventListener("click", () => openExample(button.dataset.example));
}
document.addEventListener("paste", (event) => {
  const file = pictureIn(event.clipboardData);
  if (file) openFile(file, file.name || "pasted.png");
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
  if (file) openFile(file);
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
byId("caption").addEventListener("click", () => {
  if (questions.waits("captions")) questions.giveUp("captions");
  else caption();
});
byId("labels-form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (questions.waits("words")) questions.giveUp("words");
  else compare();
});
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
      questions.giveUp();
      hide(); // a message, with what it would try again
    },
    help: () => byId("help").showModal(),
  },
});
