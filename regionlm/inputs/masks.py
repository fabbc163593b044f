"""Regions of an image: mask files, boxes and arrays, all turned into boolean masks of its size."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from regionlm.errors import InputError
from regionlm.inputs.images import MAX_PIXELS, decode_file, open_picture_bytes
from regionlm.inputs.mask_labels import Labelled, describe_values, split_picture


@dataclass(frozen=True)
class Region:
    """One region of an image.

    name: how output calls it: "m.png", "m.png#3" (label 3 of a label map) or "box 1,2,30,40".
    mask: bool [H, W] in image pixels, True inside, at least one pixel.
    """

    name: str
    mask: np.ndarray


def read_regions(path: str | Path, image_size: tuple[int, int]) -> list[Region]:
    """Read the region, or the labelled regions, that one mask file holds.

    path: 1-bit, 0/1 or 0/255 greyscale, a smoothed black-and-white mask (cut at 128), a palette or
    integer label map (a region per non-zero label), or a cut-out whose alpha is the mask; the
    exact rule is in `regionlm.inputs.mask_labels`. EXIF orientation is applied.
    image_size: (W, H) of the image, pixels, after its own EXIF orientation.

    Returns regions named by the path as given, with "#label" added where the file holds labels,
    labels ascending. Raises InputError: unreadable file (as `inputs.images.open_image`), another
    size than the image, no pixel inside, ambiguous values.
    """
    return _read_picture(decode_file(path, "mask"), str(path), image_size)


def regions_of_bytes(
    data: bytes,
    name: str,
    image_size: tuple[int, int],
    *,
    most: int = MAX_PIXELS,
    most_regions: int | None = None,
) -> list[Region]:
    """Read the regions that the bytes of a mask file hold, as `read_regions` does.

    name: how the regions and messages call it. most: pixels that it may have. most_regions: labels
    that it may have; no mask is made of further ones, which could fill the memory.
    """
    picture = open_picture_bytes(data, _called(name), most)
    return _read_picture(picture, name, image_size, most_regions)


def _read_picture(
    picture: Image.Image, name: str, image_size: tuple[int, int], most_regions: int | None = None
) -> list[Region]:
    _check_size(picture.size, image_size, _called(name))
    return _regions(split_picture(picture, _called(name)), name, most_regions)


def _called(name: str) -> str:
    """What messages call a mask; those without a name of their own are named "mask 0"."""
    return name if name.startswith("mask ") else f"mask {name}"


def box_region(box: Sequence[float] | str, image_size: tuple[int, int]) -> Region:
    """Turn a box into a region.

    box: X0,Y0,X1,Y1 in pixels of the image, whole or fractional, origin at the top left corner,
    X1 and Y1 exclusive: 0,0,W,H is the whole image. A pixel belongs to the box if its centre does.
    image_size: (W, H).

    Raises InputError: not four finite numbers, reversed, outside the image, no pixel inside, or
    fractions of the image given for pixels.
    """
    x0, y0, x1, y1 = corners = _parse_box(box)
    name = "box " + ",".join(f"{v:g}" for v in corners)
    width, height = image_size
    if x1 <= x0 or y1 <= y0:
        raise InputError(
            f"{name}: expected X0 < X1 and Y0 < Y1 (two corners, not a corner and a size)"
        )
    if x0 < 0 or y0 < 0 or x1 > width or y1 > height:
        raise InputError(
            f"{name} reaches outside the image, which is {width} x {height} pixels: "
            f"expected 0 <= X0 < X1 <= {width} and 0 <= Y0 < Y1 <= {height}"
        )
    if max(corners) <= 1 and any(v != int(v) for v in corners):
        raise InputError(
            f"{name} looks like fractions of the image; expected pixels: "
            f"multiply X by {width} and Y by {height}"
        )
    columns = _centres_within(x0, x1, width)
    rows = _centres_within(y0, y1, height)
    mask = rows[:, None] & columns[None, :]
    if not mask.any():
        raise InputError(f"{name} covers no pixel's centre: make it at least one pixel wide")
    return Region(name, mask)


def as_masks(masks: Any, image_size: tuple[int, int]) -> np.ndarray:
    """Turn any masks that a Python caller may have into bool [M, H, W], at least one, none empty.

    masks: an array or tensor [H, W] or [M, H, W] holding booleans, 0/1 or 0/255; a PIL image or a
    path (as `read_regions`, so a label map gives several masks); a Region; or a list of these.
    image_size: (W, H) of the image.

    Raises InputError: other values, size or type, an empty mask, no mask at all.
    """
    return np.stack([region.mask for region in as_regions(masks, image_size)])


def as_regions(
    masks: Any, image_size: tuple[int, int], *, most_regions: int | None = None
) -> list[Region]:
    """Like `as_masks`, with each mask's name.

    most_regions: labels that a PIL image may have, as for `regions_of_bytes`.

    A Region keeps its name, a file gives its path; others are "mask 0", "mask 1", ... by position.
    """
    regions: list[Region] = []
    for item in _items(masks):
        regions += _item_regions(item, image_size, len(regions), most_regions)
    if not regions:
        raise InputError("no region given: expected at least one mask or box")
    return regions


def _items(masks: Any) -> Iterable[Any]:
    is_several = isinstance(masks, Iterable) and not _is_array(masks)
    if is_several and not isinstance(masks, str | Path | Image.Image):
        items = list(masks)
        if items and all(isinstance(item, int | float | bool) for item in items):
            raise InputError("masks: found plain numbers; for a box use regionlm.box_region")
        return items
    return [masks]


def _item_regions(
    item: Any, image_size: tuple[int, int], index: int, most_regions: int | None
) -> list[Region]:
    if isinstance(item, Region):
        _check_size(item.mask.shape[::-1], image_size, item.name)
        return [item]
    if isinstance(item, str | Path):
        return read_regions(item, image_size)
    name = f"mask {index}"
    if isinstance(item, Image.Image):
        _check_size(item.size, image_size, name)
        return _regions(split_picture(item, name), name, most_regions)
    values = _to_numpy(item, name)
    if values.ndim == 2:
        values = values[None]
    width, height = image_size
    if values.ndim != 3:
        raise InputError(
            f"{name}: expected [H, W] or [M, H, W] = [M, {height}, {width}]; "
            f"found the shape {list(values.shape)}"
        )
    _check_size(values.shape[:0:-1], image_size, name)
    names = [f"mask {index + i}" for i in range(len(values))]
    return [_regions([(None, _two_values(v, n))], n)[0] for v, n in zip(values, names, strict=True)]


def _is_array(item: Any) -> bool:
    return hasattr(item, "__array__") or hasattr(item, "detach")


def _to_numpy(item: Any, name: str) -> np.ndarray:
    if not _is_array(item):
        raise InputError(
            f"{name}: expected an array, tensor, PIL image, path or Region; "
            f"found {type(item).__name__}"
        )
    if hasattr(item, "detach"):  # a torch tensor; numpy has no bfloat16, hence float()
        item = item.detach().cpu()
        item = item.float() if item.is_floating_point() else item
    return np.asarray(item)


def _two_values(values: np.ndarray, name: str) -> np.ndarray:
    if values.dtype == bool:
        return values
    if values.dtype.kind not in "iuf":
        raise InputError(f"{name}: expected booleans or numbers; found {values.dtype}")
    distinct = np.unique(values)
    if not (set(distinct.tolist()) <= {0, 1} or set(distinct.tolist()) <= {0, 255}):
        raise InputError(
            f"{name}: expected booleans, 0/1 or 0/255; found {describe_values(distinct)}: "
            "pass `values > threshold` for a soft mask, `labels == k` for a label map"
        )
    return values != 0


def _regions(parts: Iterable[Labelled], name: str, most: int | None = None) -> list[Region]:
    regions: list[Region] = []
    for label, mask in parts:
        if len(regions) == most:
            raise InputError(
                f"mask {name.removeprefix('mask ')}: expected at most {most} regions, found more"
                " labels"
            )
        if not mask.any():
            raise InputError(f"mask {name.removeprefix('mask ')} is empty: no pixel is inside it")
        regions.append(Region(name if label is None else f"{name}#{label}", mask))
    return regions


def _check_size(found: Sequence[int], image_size: tuple[int, int], name: str) -> None:
    """Raise InputError, with a guess at the reason, unless a mask has its image's size (W, H)."""
    (width, height), (image_width, image_height) = found, image_size
    if (width, height) == (image_width, image_height):
        return
    if (height, width) == (image_width, image_height):
        hint = (
            "width and height are swapped: rotate the mask (an image is turned upright by its "
            "EXIF orientation first), or transpose the array"
        )
    elif width * image_height == height * image_width:
        hint = "the proportions agree: resize the mask with nearest-neighbour sampling"
    else:
        hint = "make the mask on this very image, not on a cropped or padded copy"
    raise InputError(
        f"{name} is {width} x {height} pixels but the image is {image_width} x {image_height}; "
        f"{hint}"
    )


def _parse_box(box: Sequence[float] | str) -> tuple[float, float, float, float]:
    parts = box.split(",") if isinstance(box, str) else list(box)
    text = box if isinstance(box, str) else ",".join(str(v) for v in parts)
    expected = "expected four numbers X0,Y0,X1,Y1 in pixels"
    if len(parts) != 4:
        raise InputError(f"box {text!r}: {expected}; found {len(parts)} of them")
    try:
        x0, y0, x1, y1 = (float(v) for v in parts)
    except (TypeError, ValueError) as error:
        raise InputError(f"box {text!r}: {expected}; found something else") from error
    if not all(math.isfinite(v) for v in (x0, y0, x1, y1)):
        raise InputError(f"box {text!r}: {expected}; found one that is not finite")
    return x0, y0, x1, y1


def _centres_within(low: float, high: float, length: int) -> np.ndarray:
    centres = np.arange(length) + 0.5
    return (centres >= low) & (centres < high)
