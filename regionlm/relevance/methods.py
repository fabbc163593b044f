"""Relevance methods by name, and what an inversion needs of each."""

from __future__ import annotations

from typing import Any

import torch

from prefix_models.checks import check_choice
from regionlm.backbones.vision import EncodedImages, VisionBackbone
from regionlm.errors import InputError
from regionlm.relevance.budget import Budget
from regionlm.relevance.chefer import CheferCam
from regionlm.relevance.few_rows import few_rows
from regionlm.relevance.gradcam import GradCam
from regionlm.relevance.layers import LayeredMap
from regionlm.relevance.legrad import LeGrad
from regionlm.relevance.protocol import Relevance
from regionlm.relevance.published import EMPTY_TEXT, EmptyTextCorrection, as_published
from regionlm.relevance.query_map import MergedWeights
from regionlm.relevance.score import Score, ScoreName

RELEVANCE = ("legrad", "gradcam", "gradcam_no_relu", "chefer")
"""What MaskInversion's Table 8 compares."""


def make_relevance(
    name: str,
    backbone: VisionBackbone,
    images: EncodedImages,
    index: int = 0,
    *,
    score: ScoreName | None = None,
    empty_text: float | None = None,
    masks: int = 1,
    rows: int | None = None,
) -> Relevance:
    """The maps of one image under a method of ``RELEVANCE``.

    Args:
        name: of the method.
        backbone: what encoded the images; it remembers merged weights between calls.
        images: what ``backbone.encode`` returned; of LeGrad, maps of all its layers are summed.
        index: which image of the batch.
        score: ``"cosine"`` or ``"dot"`` (``relevance.score``), or ``"published"``
            (``relevance.published``); default: what suits the pooling.
        empty_text: threshold above which patches are taken out that light up for an empty text
            (``relevance.published``); default: all stay.
        masks: how many tokens will be asked for at most.
        rows: of LeGrad, how many queries the mean is over (``relevance.few_rows``), roughly;
            default: all of them. The other methods take no notice.

    Raises:
        InputError: unknown name (the message lists all), or an option that the backbone does not
            support.
    """
    check_relevance(name, backbone, score)
    if score == "published":
        images, score = as_published(backbone, images)
    method = _explain(name, backbone, images, index, score, masks, rows)
    if empty_text is None:
        return method
    embed_texts: Any = getattr(backbone, "embed_texts", None)
    if embed_texts is None:
        raise InputError(f"empty_text: {backbone.name} embeds no texts; leave it out")
    (empty,) = embed_texts([EMPTY_TEXT])
    dtype = torch.promote_types(empty.dtype, torch.float32)
    return EmptyTextCorrection(method, empty.to(dtype), empty_text)


def check_relevance(name: str, backbone: VisionBackbone, score: ScoreName | None) -> None:
    """Raise InputError if a backbone can't be explained so; arguments as in `make_relevance`."""
    check_choice("relevance", name, RELEVANCE, InputError)
    if score == "published" and backbone.pooling == "mean":
        raise InputError(
            f"score: the published code has none for mean-pooled models such as {backbone.name};"
            " take cosine or dot"
        )
    pools = backbone.pooling == "attention"
    if name.startswith("gradcam") and pools and backbone.head().block.norm_key is not None:
        raise InputError(
            f"relevance: {name} can't explain an attention pool with a norm of its keys, as that of"
            f" {backbone.name}; use legrad"
        )


def _explain(
    name: str,
    backbone: VisionBackbone,
    images: EncodedImages,
    index: int,
    score: Score | None,
    masks: int,
    rows: int | None,
) -> Relevance:
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
