/** Draws masks and relevance maps into small canvases of the picture's size. */

import { decode } from "./mask.js";

const INSIDE = 80; // opacity of a region, of 255; its outline has 255, white outside, colour inside
const WHITE = [255, 255, 255];
const HEAT = [ // of a relevance map, from nothing to all
  [0, [30, 10, 70]],
  [0.3, [135, 25, 110]],
  [0.6, [230, 75, 55]],
  [0.85, [252, 175, 40]],
  [1, [252, 250, 180]],
];

/** A region as a tinted canvas with an outline; drawn once for each shape and colour. */
export function tinted(region) {
  const known = drawn.get(region.rle);
  if (known?.colour === region.colour) return known.canvas;
  const [height, width] = region.rle.size;
  const canvas = sheet(width, height);
  tint(canvas, decode(region.rle), region.colour, { x0: 0, y0: 0, x1: width, y1: height });
  drawn.set(region.rle, { colour: region.colour, canvas });
  return canvas;
}
const drawn = new WeakMap();

/** Draw a part of a mask again. */
export function tint(canvas, mask, colour, area) {
  const { width, height } = canvas;
  const rim = Math.max(1, Math.round(Math.max(width, height) / 400));
  const x0 = Math.max(0, area.x0 - 3 * rim);
  const y0 = Math.max(0, area.y0 - 3 * rim);
  const w = Math.min(width, area.x1 + 3 * rim) - x0;
  const h = Math.min(height, area.y1 + 3 * rim) - y0;
  if (w <= 0 || h <= 0) return;
  const rgb = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  const pixels = new ImageData(w, h);
  for (let y = 0; y < h; y++) {
    for (let x = 0; x < w; x++) {
      if (!mask[(y0 + y) * width + x0 + x]) continue;
      const at = 4 * (y * w + x);
      const isOuter = onRim(mask, canvas, x0 + x, y0 + y, rim);
      pixels.data.set(isOuter ? WHITE : rgb, at);
      const isRim = isOuter || onRim(mask, canvas, x0 + x, y0 + y, 3 * rim);
      pixels.data[at + 3] = isRim ? 255 : INSIDE;
    }
  }
  canvas.getContext("2d").putImageData(pixels, x0, y0);
}

function onRim(mask, { width, height }, x, y, rim) {
  return (
    (x >= rim && !mask[y * width + x - rim]) ||
    (x + rim < width && !mask[y * width + x + rim]) ||
    (y >= rim && !mask[(y - rim) * width + x]) ||
    (y + rim < height && !mask[(y + rim) * width + x])
  );
}

/** A relevance map, a greyscale image by its address, as a coloured canvas. */
export async function heated(address) {
  const image = new Image();
  image.src = address;
  await image.decode();
  const canvas = sheet(image.naturalWidth, image.naturalHeight);
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  for (let at = 0; at < pixels.data.length; at += 4) {
    const value = pixels.data[at];
    pixels.data.set(PALETTE[value], at);
    pixels.data[at + 3] = Math.min(255, 60 + value);
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
}

const PALETTE = Array.from({ length: 256 }, (_, value) => {
  const next = Math.max(1, HEAT.findIndex(([at]) => at >= value / 255));
  const [[low, from], [high, to]] = [HEAT[next - 1], HEAT[next]];
  const share = (value / 255 - low) / (high - low);
  return from.map((one, index) => Math.round(one + share * (to[index] - one)));
});

export function sheet(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  return canvas;
}
