"""The results of embedders, and what an inversion adds to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from regionlm.embedders.options import Speed
from regionlm.relevance.explanation import Explanation
from regionlm.relevance.resize import GridToMask, scale_to_unit


@dataclass(frozen=True)
class RegionEmbeddings:
    """Embeddings of the M regions of one image. Detached, on the backbone's device."""

    embeddings: Tensor
    """``[M, d]``, unnormalised."""
    image_embedding: Tensor
    """``[d]``, unnormalised: the same model's embedding of the whole image."""

    @property
    def cosine_to_image(self) -> Tensor:
        """``[M]`` in [-1, 1]: cosine of each embedding with the image embedding."""
        return torch.nn.functional.cosine_similarity(
            self.embeddings, self.image_embedding[None], dim=1
        )

    def rescaled(self) -> Tensor:
        """Embeddings ``[M, d]`` scaled to the image embedding's norm, for decoders that are
        sensitive to it.

        AdamW's equal steps in all coordinates can make a LET many times longer than any embedding a
        decoder was trained on; means of unit vectors are shorter than 1.
        """
        unit = torch.nn.functional.normalize(self.embeddings, dim=1)
        return unit * self.image_embedding.norm()


@dataclass(frozen=True)
class Localized(RegionEmbeddings):
    """The result of MaskInversion: LETs, which all started at the image embedding, and how well
    their relevance matches the masks."""

    relevance: Tensor
    """``[M, gh, gw]``: raw maps (>= 0, but for ``gradcam_no_relu``) of the final embeddings on the
    patch grid."""
    loss: Tensor
    """``[steps, M]``: Dice loss + alpha * (1 - cosine) before each step, of the map that the step
    followed."""
    dice: Tensor
    """``[M]`` in [0, 1]: soft Dice score of the final map with the mask; 1 is a perfect match."""
    iou: Tensor
    """``[M]`` in [0, 1]: IoU of the final map thresholded at 0.5 with the mask, at its size."""
    resize: GridToMask = field(repr=False)
    speed: Speed = "exact"
    """How the embeddings were found; ``relevance``, ``dice`` and ``iou`` are exact in any case."""

    def explanations(self, names: Sequence[str]) -> list[Explanation]:
        """The maps of all M regions, by name."""
        figures = zip(names, self.relevance, self.dice.tolist(), self.iou.tolist(), strict=True)
        return [Explanation(name, one, self.resize, dice, iou) for name, one, dice, iou in figures]

    def heatmaps(self, which: slice = slice(None)) -> Tensor:
        """Maps ``[m, H, W]`` in [0, 1] of the masks ``which``, at mask resolution; a constant map
        is all zeros."""
        return self.resize.heatmaps(self.relevance[which])


def map_iou(relevance: Tensor, resize: GridToMask, masks: Tensor) -> Tensor:
    """IoU ``[M]`` of each map ``[M, gh, gw]``, min-max scaled and cut at 0.5, with its mask."""
    unit, _ = scale_to_unit(relevance, resize.extremes(relevance))
    values = []
    for one, mask in zip(unit, masks, strict=True):  # one at a time: image-sized tensors
        predicted, here = resize.upsample(one[None])[0] > 0.5, mask.to(one.device)
        inside = torch.count_nonzero(predicted & here)  # twice as fast as a sum of bools
        values.append(inside / torch.count_nonzero(predicted | here))
    return torch.stack(values)
