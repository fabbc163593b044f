"""Regions of several images that are inverted at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import Tensor

from regionlm.backbones.vision import EncodedImages
from regionlm.inputs.placement import Placement
from regionlm.relevance.together import masks_at_once

MOST_IMAGES = 8  # inverted at once: what an image's inversion shares is shared by then


@dataclass(frozen=True)
class ImageMasks:
    """An encoded image (B = 1) and masks bool ``[M, H, W]``; ``placed``: where the image lies in
    the model's input, None if it fills it."""

    encoded: EncodedImages
    masks: Tensor
    placed: Placement | None = None


def side_by_side(asked: Iterable[ImageMasks]) -> Iterator[list[ImageMasks]]:
    """Split into groups of neighbours that are alike in all that inverting at once needs, and so
    small that it is faster: where products are large, they take all the time anyway."""
    group: list[ImageMasks] = []
    for one in asked:
        if group and not _fits(one, group):
            yield group
            group = []
        group.append(one)
    if group:
        yield group


def _fits(one: ImageMasks, group: list[ImageMasks]) -> bool:
    masks = len(one.masks) + sum(len(other.masks) for other in group)
    first = group[0]
    return (
        len(group) < MOST_IMAGES
        and (one.encoded.grid, one.placed) == (first.encoded.grid, first.placed)
        and masks <= masks_at_once(first.encoded)
    )
