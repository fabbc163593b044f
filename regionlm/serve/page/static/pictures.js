/** Opens pictures: from a file, a drop, the clipboard, a camera or the examples. */

const LARGEST = 1600; // pixels of the longer side; models look at far less
const SENT_AS_THEY_ARE = ["image/png", "image/jpeg", "image/webp"];

/**
 * {name, width, height, image, uri, opened, note} of a file, where `opened` is the {width, height} that
 * it had before it was scaled down; throws Error with words for a person.
 */
export async function readPicture(blob, name = "image.png") {
  const image = await decode(URL.createObjectURL(blob), name);
  const { width, height } = sizeOf(image);
  const scale = Math.min(1, LARGEST / Math.max(width, height));
  if (scale === 1 && SENT_AS_THEY_ARE.includes(blob.type)) {
    return asIs(image, name, await dataUri(blob));
  }
  return redrawn(image, name, Math.round(width * scale), Math.round(height * scale));
}

function asIs(image, name, uri) {
  const size = sizeOf(image);
  return { name, ...size, image, uri, opened: size, note: null };
}

function sizeOf({ naturalWidth: width, naturalHeight: height }) {
  return { width, height };
}

/** The first picture of a drop or of the clipboard, or null. */
export function pictureIn(transfer) {
  return [...(transfer?.files ?? [])].find((file) => file.type.startsWith("image/")) ?? null;
}

async function redrawn(image, name, width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, width);
  canvas.height = Math.max(1, height);
  const context = canvas.getContext("2d");
  context.fillStyle = "white"; // transparency is laid on white, as the server does
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  const uri = canvas.toDataURL("image/jpeg", 0.95);
  const note = canvas.width < image.naturalWidth ? `scaled down to ${width} × ${height} pixels` : null;
  return { ...asIs(await decode(uri, name), name, uri), opened: sizeOf(image), note };
}

async function decode(url, name) {
  const image = new Image();
  image.src = url;
  try {
    await image.decode();
  } catch {
    throw new Error(`${name} can't be opened: expected a PNG, JPEG or WebP image.`);
  } finally {
    if (url.startsWith("blob:")) URL.revokeObjectURL(url);
  }
  return image;
}

function dataUri(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error("The file can't be read."));
    reader.readAsDataURL(blob);
  });
}
