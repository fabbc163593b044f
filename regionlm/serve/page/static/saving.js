/** Downloads: everything as JSON, and the picture with its regions drawn over it. */

import { download } from "./dom.js";
import { scale } from "./mask.js";
import { sheet, tinted } from "./paint.js";
import { drawScene } from "./stage.js";

/**
 * What `regionlm caption --manifest` reads as a line, with the answers beside it: masks fit the image
 * that was opened, though the page may have scaled it down, and no two regions have the same id.
 */
export function record(store) {
  const { name, opened } = store.picture;
  const ids = distinct(store.regions.map((region) => region.name));
  const regions = store.regions.map(({ rle }, at) => ({ id: ids[at], rle: scale(rle, opened) }));
  const answers = store.regions.map((region, at) => answerOf(ids[at], store.answer(region)));
  const size = [opened.width, opened.height];
  return { image: name, size, model: store.model, regions, answers };
}

/** Names, where those that came before have a number after them: fox, fox 2. */
export function distinct(names) {
  const taken = new Set(names);
  const seen = new Set();
  return names.map((name) => {
    let id = name;
    for (let n = 2; seen.has(name) && taken.has(id); n++) id = `${name} ${n}`;
    seen.add(name);
    taken.add(id);
    return id;
  });
}

function answerOf(id, answer) {
  const { caption = null, logprob = null, dice = null, iou = null } = answer ?? {};
  const { cosine_to_image = null, labels = null } = answer ?? {};
  return { region: id, caption, logprob, dice, iou, cosine_to_image, labels };
}

export function saveJson(store) {
  const text = `${JSON.stringify(record(store))}\n`;
  download(new Blob([text], { type: "application/json" }), `${stem(store)}-regions.json`);
}

export async function savePicture(store, heat, heatOpacity) {
  const canvas = draw(store, heat, heatOpacity);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  download(blob, `${stem(store)}-regions.png`);
}

/** The picture, its regions, and under it a line for each region. */
function draw(store, heat, heatOpacity) {
  const { picture, regions } = store;
  const size = Math.max(14, Math.round(picture.width / 36));
  const canvas = sheet(picture.width, picture.height + Math.round(regions.length * size * 1.6 + size));
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  const layers = regions.map((region) => ({ canvas: tinted(region), opacity: 1 }));
  if (heat) layers.unshift({ canvas: heat, opacity: heatOpacity });
  drawScene(context, picture.image, picture, layers);
  context.font = `${size}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  regions.forEach((region, index) => {
    const y = picture.height + size * (1.3 + 1.6 * index);
    context.fillStyle = region.colour;
    context.fillRect(size / 2, y - size / 2, size, size);
    context.fillStyle = "#1c1e21";
    const caption = store.answer(region)?.caption;
    context.fillText(caption ? `${region.name}: ${caption}` : region.name, size * 2, y, canvas.width - size * 2.5);
  });
  return canvas;
}

function stem(store) {
  return store.picture.name.replace(/\.[^.]*$/, "") || "image";
}
