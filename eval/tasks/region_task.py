"""What all tasks have in common."""

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
"""What is said about one query, JSON values only; metrics are computed from records alone."""

RegionEmbedder = Callable[[Image.Image, np.ndarray], RegionEmbeddings]
"""A picture and masks bool ``[M, H, W]`` to vectors: an embedder, perhaps shown other masks."""

DIGITS = 6  # of scores in records; ranks are taken before rounding


class RegionTask(Protocol):
    """A question about the regions of an image."""

    def answer(self, sample: Sample, shown: np.ndarray | None = None) -> list[Record]:
        """The records of one image.

        Depends on nothing but its arguments and the task's settings.

        Args:
            sample: image, masks and texts.
            shown: what the embedder gets to see in place of the sample's masks, as many; the
                answers are still judged by those.
        """
        ...


def shown_masks(sample: Sample, shown: np.ndarray | None) -> np.ndarray:
    """What an embedder gets to see: the sample's own masks, unless there are others."""
    return sample.masks if shown is None else shown


def cosines(left: Tensor, right: Tensor) -> Tensor:
    """Cosine of each row of ``left [A, d]`` with each of ``right [B, d]``: float32 ``[A, B]``."""
    return normalize(left.float(), dim=1) @ normalize(right.float(), dim=1).T


def rounded(value: float) -> float:
    """A score as records hold it."""
    return round(float(value), DIGITS)
