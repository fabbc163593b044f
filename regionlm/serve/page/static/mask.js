/**
 * Binary masks: a Uint8Array of width x height, row by row, 1 inside; and COCO's run-length code of
 * one, {size: [height, width], counts}, column by column, outside first. The server reads that code.
 */

/** An empty mask. */
export function blank({ width, height }) {
  return new Uint8Array(width * height);
}

/** Draw a stroke: all pixels whose centre is within `radius` of the line. Returns what changed. */
export function stroke(mask, size, from, to, radius, value) {
  const area = clip(size, {
    x0: Math.floor(Math.min(from.x, to.x) - radius),
    y0: Math.floor(Math.min(from.y, to.y) - radius),
    x1: Math.ceil(Math.max(from.x, to.x) + radius),
    y1: Math.ceil(Math.max(from.y, to.y) + radius),
  });
  const dx = to.x - from.x;
  const dy = to.y - from.y;
  const length = dx * dx + dy * dy;
  for (let y = area.y0; y < area.y1; y++) {
    for (let x = area.x0; x < area.x1; x++) {
      const px = x + 0.5 - from.x;
      const py = y + 0.5 - from.y;
      const along = length ? Math.max(0, Math.min(1, (px * dx + py * dy) / length)) : 0;
      const ex = px - along * dx;
      const ey = py - along * dy;
      if (ex * ex + ey * ey <= radius * radius) mask[y * size.width + x] = value;
    }
  }
  return area;
}

/** Fill the box between two corners. Returns what changed. */
export function fillBox(mask, size, from, to, value) {
  const area = clip(size, {
    x0: Math.round(Math.min(from.x, to.x)),
    y0: Math.round(Math.min(from.y, to.y)),
    x1: Math.round(Math.max(from.x, to.x)),
    y1: Math.round(Math.max(from.y, to.y)),
  });
  for (let y = area.y0; y < area.y1; y++) {
    mask.fill(value, y * size.width + area.x0, y * size.width + Math.max(area.x0, area.x1));
  }
  return area;
}

/** Set (or clear, for value 0) the pixels of `mask` that are inside `other`. */
export function apply(mask, other, value) {
  for (let i = 0; i < mask.length; i++) if (other[i]) mask[i] = value;
}

/** The run-length code of a mask. */
export function encode(mask, { width, height }) {
  const counts = [];
  let run = 0;
  let value = 0;
  for (let x = 0; x < width; x++) {
    for (let i = x; i < mask.length; i += width) {
      if (mask[i] !== value) {
        counts.push(run);
        run = 0;
        value = mask[i];
      }
      run++;
    }
  }
  counts.push(run);
  return { size: [height, width], counts };
}

/** The mask of a run-length code. */
export function decode({ size: [height, width], counts }) {
  const mask = new Uint8Array(width * height);
  let position = 0;
  counts.forEach((run, index) => {
    if (index % 2) {
      for (let p = position; p < position + run; p++) {
        mask[(p % height) * width + Math.floor(p / height)] = 1;
      }
    }
    position += run;
  });
  return mask;
}

/**
 * The run-length code of a mask scaled to another size: every pixel is as the nearest one was. Works on
 * the runs alone, so it takes as long as they are many, not as the picture is large.
 */
export function scale(rle, { width, height }) {
  const [h, w] = rle.size;
  if (w === width && h === height) return rle;
  const columns = columnRuns(rle);
  const first = (y) => Math.ceil((2 * y * height - h) / (2 * h)); // row whose centre is beyond y
  const counts = [];
  let end = 0; // of the last run inside
  for (let x = 0; x < width; x++) {
    for (const [y0, y1] of columns[Math.floor(((2 * x + 1) * w) / (2 * width))]) {
      const from = x * height + first(y0);
      const to = x * height + first(y1);
      if (from === to) continue;
      if (counts.length && from === end) counts[counts.length - 1] += to - from;
      else counts.push(from - end, to - from);
      end = to;
    }
  }
  if (end < width * height) counts.push(width * height - end);
  return { size: [height, width], counts };
}

/** For each column, where its runs inside begin and end. */
function columnRuns({ size: [height, width], counts }) {
  const columns = Array.from({ length: width }, () => []);
  let position = 0;
  counts.forEach((run, index) => {
    const end = position + run;
    while (index % 2 && position < end) {
      const x = Math.floor(position / height);
      const stop = Math.min(end, (x + 1) * height);
      columns[x].push([position - x * height, stop - x * height]);
      position = stop;
    }
    position = end;
  });
  return columns;
}

/** Number of pixels inside. */
export function area({ counts }) {
  return counts.reduce((sum, run, index) => sum + (index % 2 ? run : 0), 0);
}

function clip({ width, height }, { x0, y0, x1, y1 }) {
  return {
    x0: Math.max(0, x0),
    y0: Math.max(0, y0),
    x1: Math.min(width, x1),
    y1: Math.min(height, y1),
  };
}
