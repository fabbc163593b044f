/** Opens pictures: from a file, a drop, the clipboard, a camera or the examples. */

const LARGEST = 1600; // pixels of the longer side; models look at far less
const SENT_AS_THEY_ARE = ["image/png", "image/jpeg", "image/webp"];

/** {name, width, height, image, uri, note} of a file; throws Error with words for a person. */
export async function readPicture(blob, name = "image.png") {
  const image = await decode(URL.createObjectURL(blob), name);
  const { naturalWidth: width, naturalHeight: height } = image;
  const scale = Math.min(1, LARGEST / Math.max(width, height));
  if (scale === 1 && SENT_AS_THEY_ARE.includes(blob.type)) {
    return { name, width, height, image, uri: await dataUri(blob), note: null };
  }
  return redrawn(image, name, Math.round(width * scale), Math.round(height * scale));
}

/** The picture of a data URI, as `readPicture` gave it. */
export async function fromUri(uri, name) {
  const image = await decode(uri, name);
  return { name, width: image.naturalWidth, height: image.naturalHeight, image, uri, note: null };
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
  return { ...(await fromUri(uri, name)), note };
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
