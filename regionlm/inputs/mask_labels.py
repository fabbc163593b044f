"""What the values of a mask picture mean: one region, several labels, or nothing certain.

The rule, in this order, for a picture of one channel ("white" is 255, in 16-bit files 65535):

1. a single value other than 0, 1, 255 and white: refused, it marks nothing;
2. only 0 and 1, 0 and 255, or 0 and white: one region;
3. a palette's indices, or values of at most 63: labels, 0 is background; white beside them is
   void, the "ignore" border of VOC and Cityscapes, and no region. If there is more white than
   all labels together, it may just as well be a mask with a few stray pixels: refused, unless a
   palette says that the values are labels;
4. black and white with a little grey (at most a tenth of the pixels, and only along edges): a
   smoothed mask, cut at the middle (128 and up is inside). With 8 bits, 0..31 and 224..255 count
   as black and white, since JPEG adds that much noise;
5. few distinct values (at most 64; 1024 in 16-bit files) and no white: labels;
6. anything else could be a soft mask, a photograph or labels: refused, with the values seen.

Colour: a picture whose channels are equal is greyscale; black and one colour is one region; more
colours are refused. Transparency that varies is the mask, whatever the colours: alpha > 127.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from PIL import Image

from regionlm.errors import InputError

_SMALL_LABEL = 63
_MOST_LABELS = {255: 64, 65535: 1024}
_JPEG_NOISE = 31
_GREY_SHARE = 0.1
_FLAT_SHARE = 0.01

#: A region of a picture: its label, or None where the picture holds one unlabelled region.
Labelled = tuple[int | None, np.ndarray]


def split_picture(picture: Image.Image, name: str) -> Iterable[Labelled]:
    """Find the regions of a mask picture of any PIL mode, labels ascending.

    name: how messages call the picture. Returns (label or None, bool [H, W]) pairs; a single
    unlabelled mask may be empty, the caller checks. Raises InputError where the values are
    ambiguous; masks are made as they are taken.
    """
    if picture.mode == "1":
        return [(None, np.asarray(picture))]
    if picture.mode == "P":
        return _split_palette(picture, name)
    if picture.mode in ("L", "I", "F") or picture.mode.startswith("I;16"):
        return _split_values(np.asarray(picture), name)
    if picture.mode in ("LA", "PA", "La", "RGBa", "RGBA"):
        rgba = picture.convert("RGBA")
        alpha = np.asarray(rgba.getchannel("A"))
        if alpha.min() != alpha.max():
            return [(None, alpha > 127)]
        if alpha.flat[0] == 0:
            raise InputError(f"{name} is fully transparent: it holds no region")
        if alpha.flat[0] != 255:
            raise InputError(
                f"{name} has one transparency everywhere (alpha {alpha.flat[0]}), which marks "
                "nothing: make the region opaque and the rest transparent"
            )
        return _split_colours(np.asarray(rgba)[..., :3], name)
    try:
        rgb = picture.convert("RGB")
    except ValueError as error:
        raise InputError(f"{name} is stored as {picture.mode}: save it as greyscale") from error
    return _split_colours(np.asarray(rgb), name)


def _split_palette(picture: Image.Image, name: str) -> Iterable[Labelled]:
    """Read indices as labels, unless the palette merely spells a greyscale picture."""
    indices = np.asarray(picture)
    palette = np.asarray((picture.getpalette() or []) + [0] * 768, dtype=np.uint8)[:768]
    palette = palette.reshape(256, 3)
    used = np.unique(indices)
    greys = palette[used]
    is_grey = bool((greys == greys[:, :1]).all()) and len(np.unique(greys[:, 0])) == len(used)
    if is_grey:  # a palette whose colours tell the indices apart, all of them grey: as "L"
        return _split_values(palette[:, 0][indices], name)
    if set(used.tolist()) <= {0, 1}:
        return [(None, indices != 0)]
    return _label_regions(indices, used, void=255)


def _split_colours(rgb: np.ndarray, name: str) -> Iterable[Labelled]:
    if (rgb == rgb[..., :1]).all():
        return _split_values(rgb[..., 0], name)
    codes = rgb.astype(np.uint32) @ np.array([65536, 256, 1], dtype=np.uint32)
    colours = np.unique(codes)
    if len(colours) == 2 and colours[0] == 0:
        return [(None, codes != 0)]
    count = "one colour" if len(colours) == 1 else f"{len(colours)} colours"
    raise InputError(
        f"{name} has {count}; expected black and white, black and one "
        "colour, a palette or integer label map, or a cut-out with transparency: save one mask "
        "file per region"
    )


def _split_values(values: np.ndarray, name: str) -> Iterable[Labelled]:
    """Apply the rule at the top of this module to one channel [H, W]."""
    wide = values.dtype != np.uint8
    white = 65535 if wide else 255
    distinct = np.unique(values)
    binary = [{0, 1}, {0, 255}, {0, white}]
    if any(set(distinct.tolist()) <= pair for pair in binary):
        return [(None, values != 0)]
    if len(distinct) == 1 or values.dtype.kind == "f" or distinct[0] < 0 or distinct[-1] > 65535:
        raise InputError(_unclear(values, distinct, name))
    if all(v <= _SMALL_LABEL or v == white for v in distinct.tolist()):
        _check_void(values, distinct, white, name)
        return _label_regions(values, distinct, void=white)
    if _is_smoothed(values, white):
        return [(None, values > white // 2)]
    if distinct[-1] != white and len(distinct) <= _MOST_LABELS[65535 if wide else 255]:
        return _label_regions(values, distinct, void=None)
    raise InputError(_unclear(values, distinct, name))


def _check_void(values: np.ndarray, distinct: np.ndarray, white: int, name: str) -> None:
    """Refuse labels that may be the stray pixels of a white region."""
    void = int((values == white).sum())
    labelled = int(((values != 0) & (values != white)).sum())
    if void > labelled > 0:
        raise InputError(
            f"{name} is ambiguous: found {describe_values(distinct)}, and more of {white} ({void}"
            f" pixels) than of all labels together ({labelled}): for one region set all pixels to"
            f" 0 or {white}, for labels save a palette PNG"
        )


def _is_smoothed(values: np.ndarray, white: int) -> bool:
    """Whether values [H, W], 0..white, are black and white with grey along the edges only."""
    noise = _JPEG_NOISE if white == 255 else 0  # a JPEG has 8 bits
    inside, outside = values >= white - noise, values <= noise
    grey = ~(inside | outside)
    if not inside.any() or not outside.any() or grey.mean() > _GREY_SHARE:
        return False
    # A label fills an area with one value; an edge never does. Count grey pixels that equal
    # their eight neighbours.
    flat = grey.copy()
    height, width = values.shape
    around = np.pad(values, 1, mode="edge")
    for dy in (0, 1, 2):
        for dx in (0, 1, 2):
            flat &= around[dy : dy + height, dx : dx + width] == values
    return bool(flat.sum() <= _FLAT_SHARE * grey.sum())


def _label_regions(
    values: np.ndarray, distinct: np.ndarray, void: int | None
) -> Iterable[Labelled]:
    """Give one region per non-zero label; void is a label only where it is the only one."""
    labels = [int(v) for v in distinct if v != 0]
    kept = [v for v in labels if v != void] or labels
    if not kept:
        return [(None, np.zeros(values.shape, dtype=bool))]
    return ((label, values == label) for label in kept)


def _unclear(values: np.ndarray, distinct: np.ndarray, name: str) -> str:
    seen = describe_values(distinct)
    if len(distinct) == 1:
        return (
            f"{name} holds one value everywhere ({seen}), which marks nothing: "
            "expected 0 outside the region and 255 inside"
        )
    return (
        f"{name} is ambiguous: expected 0/1, 0/255 or a few integer labels, found {seen}: "
        "threshold it (for a soft mask), or save labels as a palette PNG"
    )


def describe_values(distinct: np.ndarray) -> str:
    """Sorted distinct values for a message: all of them if few, else their number and range."""
    shown = [f"{v:g}" for v in distinct.tolist()]
    if len(shown) <= 8:
        return "the value " + shown[0] if len(shown) == 1 else "the values " + ", ".join(shown)
    return f"{len(shown)} different values from {shown[0]} to {shown[-1]}"
