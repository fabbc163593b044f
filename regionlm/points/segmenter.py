"""What turns points of an image into a region, and how to get one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from PIL import Image

from regionlm.inputs.points import Point

if TYPE_CHECKING:
    from pathlib import Path


class Segmenter(Protocol):
    """Finds the region that points of an image mark. May be shared by threads."""

    method: str
    """A word for programs: "superpixel" or "sam"."""
    note: str
    """A line for people: how the region was found."""

    def mask(self, image: Image.Image, points: Sequence[Point]) -> np.ndarray:
        """The region, bool ``[H, W]`` in image pixels, at least one inside.

        Args:
            image: RGB.
            points: inside the image, as `regionlm.inputs.points.read_points` gives them.

        Raises:
            InputError: no region fits the points.
        """
        ...


def load_segmenter(
    sam: str | Path | None = None, *, device: str = "auto", offline: bool = False
) -> Segmenter:
    """A segmenter.

    Args:
        sam: folder or hub id of a SAM or SAM 2 of transformers; None grows regions by colour.
        device: of the model, as everywhere.
        offline: only use files on this machine.

    Raises:
        ModelError: a model or device that can't be used.
    """
    if sam is None:
        from regionlm.points.superpixels import Superpixels

        return Superpixels()
    from regionlm.points.sam import Sam

    return Sam.from_pretrained(sam, device=device, offline=offline)
