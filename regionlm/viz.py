"""Draw relevance maps over an image, with a panel for each region or text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from regionlm.files import save_picture

_PANEL = 480  # longest side of one panel, pixels
_COLUMNS = 4
_GAP = 12
_FONT_SIZE = 17
# RGB of relevance 0, 1/4 ... 1: dark blue, blue-violet, red, orange, pale yellow. Lightness rises
# throughout, so maps can be read in grey and by colour-blind people.
_COLOURS = np.array([[8, 10, 60], [88, 20, 128], [190, 45, 90], [245, 135, 35], [252, 245, 170]])


def colour_relevance(relevance: np.ndarray) -> np.ndarray:
    """Colour a map [H, W] in [0, 1] as uint8 RGB [H, W, 3]; clips values, and NaN counts as 0."""
    values = np.clip(np.nan_to_num(relevance, nan=0.0), 0, 1)
    stops = np.linspace(0, 1, len(_COLOURS))
    channels = [np.interp(values, stops, _COLOURS[:, c]) for c in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def draw_panel(
    image: Image.Image, mask: np.ndarray | None, relevance: np.ndarray, caption: str = ""
) -> Image.Image:
    """Draw a map over the image, with the mask's outline and a caption below.

    image: RGB. mask: bool [H, W] of the image's size, or None for no outline. relevance: [h, w] of
    any size, in [0, 1]; the more relevant a pixel, the more its colour covers the image. Returns
    RGB; without the caption, the longest side is 480 pixels.
    """
    scale = _PANEL / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    small = np.asarray(image.resize(size, Image.Resampling.LANCZOS), dtype=np.float32)
    grid = Image.fromarray(np.asarray(relevance, dtype=np.float32))
    values = np.clip(np.asarray(grid.resize(size, Image.Resampling.BILINEAR)), 0, 1)
    weight = (0.25 + 0.5 * values)[..., None]
    blended = (1 - weight) * small + weight * colour_relevance(values)
    if mask is not None:
        inside = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)
        # BOX leaves a trace of regions thinner than a panel pixel; max keeps that in the outline.
        covered = np.asarray(inside) >= min(128, int(np.asarray(inside).max()))
        line, halo = outline(covered)
        blended[halo] = 0
        blended[line] = 255
    return _with_caption(Image.fromarray(blended.round().astype(np.uint8)), caption)


def outline(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the two outermost pixels of a mask, bool [H, W], and the pixels just outside it."""
    return mask & ~_shrink(_shrink(mask)), ~mask & ~_shrink(~mask)


def draw_heatmaps(
    image: Image.Image,
    masks: Sequence[np.ndarray | None] | np.ndarray,
    relevance: Any,
    captions: Sequence[str] = (),
    *,
    columns: int = _COLUMNS,
) -> Image.Image:
    """Draw the panels of M maps side by side, by default four in a row.

    image: RGB. masks: bool [M, H, W] of the image's size, or M of such masks or None. relevance:
    array or tensor [M, h, w] in [0, 1], or M maps. captions: M texts, or none.
    """
    texts = list(captions) or [""] * len(masks)
    maps = [np.asarray(m.detach().cpu() if hasattr(m, "detach") else m) for m in relevance]
    panels = [
        draw_panel(image, mask, values, text)
        for mask, values, text in zip(masks, maps, texts, strict=True)
    ]
    width, height = panels[0].width, max(panel.height for panel in panels)
    columns = min(len(panels), columns)
    rows = -(-len(panels) // columns)
    sheet = Image.new(
        "RGB", (columns * (width + _GAP) - _GAP, rows * (height + _GAP) - _GAP), "white"
    )
    for i, panel in enumerate(panels):
        sheet.paste(panel, ((i % columns) * (width + _GAP), (i // columns) * (height + _GAP)))
    return sheet


def save_heatmap(
    path: str | Path,
    image: Image.Image,
    masks: Sequence[np.ndarray | None] | np.ndarray,
    relevance: Any,
    captions: Sequence[str] = (),
    *,
    columns: int = _COLUMNS,
) -> None:
    """Write `draw_heatmaps` to a .png, .jpg or .webp file, whole or not at all.

    Raises InputError if the file can't be written.
    """
    save_picture(path, draw_heatmaps(image, masks, relevance, captions, columns=columns))


def _shrink(mask: np.ndarray) -> np.ndarray:
    """Keep pixels with all four neighbours in the mask; those beyond the border count as in."""
    padded = np.pad(mask, 1, mode="edge")
    sides = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    return mask & np.logical_and.reduce(sides)


def _with_caption(picture: Image.Image, caption: str) -> Image.Image:
    if not caption:
        return picture
    font = ImageFont.load_default(_FONT_SIZE)
    lines = _wrap(caption, font, picture.width - 8)
    line_height = _FONT_SIZE + 5
    height = picture.height + 6 + line_height * len(lines)
    sheet = Image.new("RGB", (picture.width, height), "white")
    sheet.paste(picture, (0, 0))
    draw = ImageDraw.Draw(sheet)
    for i, line in enumerate(lines):
        draw.text((4, picture.height + 3 + i * line_height), line, fill="black", font=font)
    return sheet


def _wrap(text: str, font: Any, width: int) -> list[str]:
    """Break a text into lines of at most `width` pixels, inside words only if they are longer."""
    lines = [""]
    for word in text.split():
        if lines[-1] and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
            continue
        lines.append("")
        for letter in word:
            if lines[-1] and font.getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    return [line for line in lines if line]
