"""Relevance methods by name, and what an inversion needs of each."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from prefix_models.checks import check_choice
from regionlm.backbones.vision import EncodedImages, VisionBackbone
from regionlm.errors import InputError
from regionlm.relevance.budget import Budget
from regionlm.relevance.chefer import CheferCam
from regionlm.relevance.few_rows import few_rows
from regionlm.relevance.gradcam import GradCam
from regionlm.relevance.layers import LayeredMap
from regionlm.relevance.legrad import LeGrad
from regionlm.relevance.query_map import MergedWeights
from regionlm.relevance.score import Score

RELEVANCE = ("legrad", "gradcam", "gradcam_no_relu", "chefer")
"""What MaskInversion's Table 8 compares."""


class Relevance(Protocol):
    """Maps of one encoded image on its patch grid, as a differentiable function of a token."""

    grid: tuple[int, int]
    chunk: int
    """Most tokens one ``forward`` takes."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Raw maps ``[m, gh, gw]`` of tokens of the joint space ``[m, d]``, m <= ``chunk``."""

    def backward(self, dmaps: Tensor) -> Tensor:
        """Gradient ``[m, d]`` at the last ``forward``'s tokens, given ``[m, gh, gw]`` at its maps.

        After a forward of a single token m may be larger: m losses of the same map.
        """


def make_relevance(
    name: str,
    backbone: VisionBackbone,
    images: EncodedImages,
    index: int = 0,
    *,
    score: Score | None = None,
    masks: int = 1,
    rows: int | None = None,
) -> Relevance:
    """The maps of one image under a method of ``RELEVANCE``.

    Args:
        name: of the method.
        backbone: what encoded the images; it remembers merged weights between calls.
        images: what ``backbone.encode`` returned; of LeGrad, maps of all its layers are summed.
        index: which image of the batch.
        score: ``"cosine"`` or ``"dot"`` (``relevance.score``); default: what suits the pooling.
        masks: how many tokens will be asked for at most.
        rows: of LeGrad, how many queries the mean is over (``relevance.few_rows``), roughly;
            default: all of them. The other methods take no notice.

    Raises:
        InputError: unknown name (the message lists all).
    """
    check_choice("relevance", name, RELEVANCE, InputError)
    if name in ("gradcam", "gradcam_no_relu"):
        pooled = images.head.pooling == "attention"
        weights = _merged_weights(backbone, images, 0) if pooled else None
        relu = name == "gradcam"
        return GradCam(images, index, relu=relu, score=score, weights=weights, masks=masks)
    if name == "chefer":
        weights = _merged_weights(backbone, images, 0)
        return CheferCam(images, index, score=score, weights=weights, masks=masks)
    layers = (*images.earlier, images)
    shared = Budget.for_device(images.residual.device).shared_by(len(layers))
    maps = [
        LeGrad(
            one,
            index,
            rows=None if rows is None else few_rows(one, rows),
            score=score,
            weights=_merged_weights(backbone, one, number),
            masks=masks,
            budget=shared,
        )
        for number, one in enumerate(reversed(layers))
    ]
    return maps[0] if len(maps) == 1 else LayeredMap(maps)


def _merged_weights(backbone: VisionBackbone, images: EncodedImages, number: int) -> MergedWeights:
    """Those of a block, counted from the last; remembered by the backbone."""
    block = images.head.block
    sources = MergedWeights.sources(block)
    return backbone.derived(f"merged weights {number}", sources, lambda: MergedWeights.of(block))
