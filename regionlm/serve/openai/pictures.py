"""The images of a chat, and the regions that they mark.

The region of an image is its transparency: what is opaque is inside (alpha > 127). The colours
under the transparent rest stay what they are, since the model sees the whole image. A black and
white picture or a label map after an image is a mask of it. An image with neither is meant as a
whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from prefix_models.errors import within
from regionlm.errors import InputError
from regionlm.inputs.images import as_image, open_picture_bytes
from regionlm.inputs.mask_labels import split_picture
from regionlm.inputs.masks import Region, as_regions
from regionlm.inputs.views import ImageView
from regionlm.serve.openai.schemas import Message
from regionlm.tools.bounds import MIB

if TYPE_CHECKING:
    from regionlm.serve.engine import Engine


class Place(NamedTuple):
    """An image part of the messages: where it stands there, and its URL."""

    name: str
    url: str


@dataclass
class Shown:
    """An image with its regions."""

    view: ImageView
    number: int
    """Of its picture among all, from 1."""
    regions: list[Region]


def last_question(messages: Sequence[Message]) -> tuple[list[Place], str]:
    """Images and text of a conversation's last turn of the user.

    A turn without images is about those of the last one that has some.

    Raises:
        InputError: no image anywhere.
    """
    turns = [(i, one.content) for i, one in enumerate(messages) if one.role == "user"]
    text = ""
    for at, (index, parts) in enumerate(reversed(turns)):
        if at == 0:
            text = " ".join(part.text.strip() for part in parts if part.text.strip())
        places = [
            Place(f"messages.{index}.content.{position}.image_url", part.image_url.url)
            for position, part in enumerate(parts)
            if part.image_url is not None
        ]
        if places:
            return places, text
    raise InputError(
        "messages: found no image; add a part of the type image_url with a data: URI of a PNG whose"
        " transparency marks the region"
    )


def read_pictures(engine: Engine, files: Sequence[tuple[str, bytes]]) -> list[Shown]:
    """Images with their regions, in order; regions are named by the number of their picture.

    It takes the time of decoding, so not for the event loop.

    Args:
        engine: whose limits and cache of images count.
        files: the name by which messages call each, and its bytes.

    Raises:
        InputError: a picture that can't be read or marks nothing, a mask of another size than its
            image, too many regions, too large together. QueueFullError, ClosingError: questions
            about them would not be accepted, so they are not decoded.
    """
    engine.check_room()
    shown: list[Shown] = []
    count, bounds = 0, engine.limits.bounds
    budget = int(bounds.masks_mib * MIB)  # bytes: 4 for a pixel, and one for each of a mask
    for number, (name, data) in enumerate(files, 1):
        bounds.check_regions(count + 1)  # this one has a region, or is a mask
        picture = open_picture_bytes(data, name, bounds.pixels)
        area = picture.width * picture.height
        budget -= 4 * area
        if budget < 0 and number > 1:
            raise InputError(
                f"{name}: the images up to this one are too large together; send several requests"
            )
        most = min(bounds.regions - count, max(1, budget // area))
        if picture.has_transparency_data and not picture.mode.startswith("I"):  # more than 8 bits
            picture = picture.convert("RGBA")
        with within(name):
            if shown and not _has_alpha(picture) and _is_mask(picture):
                regions = _marked(picture, shown[-1].view, number, most)
                shown[-1].regions += regions
            else:
                view = _see(engine, picture)
                regions = _marked(picture, view, number, most) if _has_alpha(picture) else []
                shown.append(Shown(view, number, regions))
        count += len(regions)
        budget -= area * len(regions)
        bounds.check_regions(max(count, len(shown)))
    for one in shown:
        one.regions = one.regions or [_whole(one)]
    return _joined(shown)


def _has_alpha(picture: Image.Image) -> bool:
    return picture.mode == "RGBA" and picture.getchannel("A").getextrema() != (255, 255)


def _is_mask(picture: Image.Image) -> bool:
    try:
        split_picture(picture, "picture")
    except InputError:
        return False
    return True


def _marked(picture: Image.Image, view: ImageView, number: int, most: int) -> list[Region]:
    """The regions that a picture marks; a label map's have the labels in their names."""
    found = as_regions(picture, view.size, most_regions=most)
    return [replace(r, name=f"image {number}" + r.name.removeprefix("mask 0")) for r in found]


def _see(engine: Engine, picture: Image.Image) -> ImageView:
    """The view of a picture's colours; the same for copies that mark other regions."""
    image = picture.convert("RGB") if picture.mode == "RGBA" else as_image(picture)
    key = f"RGB {image.size} ".encode() + image.tobytes()
    return engine.views.view(key, lambda _: ImageView(image))


def _whole(shown: Shown) -> Region:
    width, height = shown.view.size
    return Region(f"image {shown.number}", np.ones((height, width), dtype=bool))


def _joined(shown: Sequence[Shown]) -> list[Shown]:
    """Neighbours that show one image, as one."""
    joined: list[Shown] = []
    for one in shown:
        if joined and joined[-1].view is one.view:
            joined[-1].regions += one.regions
        else:
            joined.append(one)
    return joined
