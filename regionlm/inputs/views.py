"""An image for several questions, and what models have computed from it so far."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image
from torch import Tensor

from regionlm.inputs.images import as_image


class ImageView:
    """One image, with what embedders have computed from it: later questions start from there.

    ``captioner.encode(image)`` makes one; every method that takes an image takes a view as well. It
    belongs to no model: each embedder finds in it what it has stored there, and adds what is
    missing. What a view holds was computed with the weights of that time; make a new one after you
    have changed them.

    Args:
        image: RGB, as `regionlm.inputs.images.as_image` gives it.
    """

    def __init__(self, image: Image.Image) -> None:
        self.image = image
        self._seen: dict[Hashable, Any] = {}

    @property
    def size(self) -> tuple[int, int]:
        """(W, H) of the image, in pixels: that of its masks."""
        return self.image.size

    @property
    def nbytes(self) -> int:
        """Memory of the picture, and of what has been computed from it."""
        width, height = self.size
        return 3 * width * height + sum(map(nbytes_of, list(self._seen.values())))

    def __contains__(self, key: Hashable) -> bool:
        return key in self._seen

    def __getitem__(self, key: Hashable) -> Any:
        return self._seen[key]

    def keep(self, key: Hashable, seen: Any) -> Any:
        """Keep a tensor, or a dataclass of tensors and of tuples of such, under a key; returns it.

        What is a part of a larger tensor, such as one image of a batch, is copied, so that the
        view does not hold the whole batch in memory.
        """
        self._seen[key] = _alone(seen)
        return self._seen[key]


ImageLike: TypeAlias = Image.Image | np.ndarray | Tensor | str | Path | ImageView


def as_view(image: ImageLike) -> ImageView:
    """A view as it is, or a new one of anything that `as_image` takes. Raises as there."""
    return image if isinstance(image, ImageView) else ImageView(as_image(image))


def _alone(seen: Any) -> Any:
    if isinstance(seen, Tensor):
        is_part = seen.untyped_storage().nbytes() > seen.nbytes
        return seen.clone() if is_part else seen
    if is_dataclass(seen) and not isinstance(seen, type):
        parts = {one.name: getattr(seen, one.name) for one in fields(seen)}
        return replace(
            seen,
            **{n: _alone(p) for n, p in parts.items() if isinstance(p, Tensor | tuple)},
        )
    return tuple(map(_alone, seen)) if isinstance(seen, tuple) else seen


def nbytes_of(seen: Any) -> int:
    """Memory of a tensor, or of all in a dataclass, list or tuple; 0 for anything else."""
    if isinstance(seen, Tensor):
        return seen.nbytes
    if is_dataclass(seen) and not isinstance(seen, type):
        return sum(nbytes_of(getattr(seen, one.name)) for one in fields(seen))
    return sum(map(nbytes_of, seen)) if isinstance(seen, list | tuple) else 0
