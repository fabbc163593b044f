"""What all tasks share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from regionlm.datasets.sample import Sample
from regionlm.embedders import RegionEmbeddings

Record = dict[str, Any]
"""The answer to one query, in JSON values; metrics are computed from records alone."""

RegionEmbedder = Callable[[Image.Image, np.ndarray], RegionEmbeddings]
"""Turns an image and masks, bool ``[M, H, W]``, into embeddings; any embedder is one."""

DIGITS = 6  # of scores in records; ranks are computed before rounding


class RegionTask(Protocol):
    """A question about the regions of an image."""

    def answer(self, sample: Sample, shown: np.ndarray | None = None) -> list[Record]:
        """Return the records of one image; they depend on the arguments and settings only.

        Args:
            sample: image, masks and texts.
            shown: masks that the embedder sees instead of the sample's, as many; the answers are
                judged by the sample's masks all the same.
        """
        ...


def shown_masks(sample: Sample, shown: np.ndarray | None) -> np.ndarray:
    """Return the masks that the embedder sees: ``shown``, or the sample's own if it is None."""
    return sample.masks if shown is None else shown


def cosines(left: Tensor, right: Tensor) -> Tensor:
    """Return cosines of the rows of ``left [A, d]`` and ``right [B, d]``, float32 ``[A, B]``."""
    return normalize(left.float(), dim=1) @ normalize(right.float(), dim=1).T


def rounded(value: float) -> float:
    """Round a score as records hold it."""
    return round(float(value), DIGITS)
