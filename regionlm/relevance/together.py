"""Maps of several small images at once, which is faster than one image after the other."""

from __future__ import annotations

from collections.abc import Sequence

from regionlm.backbones.vision import EncodedImages
from regionlm.relevance.attention_map import AttentionMap, elements_per_mask
from regionlm.relevance.budget import Budget
from regionlm.relevance.layers import LayeredMap
from regionlm.relevance.protocol import Relevance

ATTENTION_MAPS = ("legrad", "chefer")
"""The methods of ``regionlm.relevance.methods`` whose maps can be worked on so."""


def masks_at_once(images: EncodedImages) -> int:
    """How many masks of such images are small enough to be worked on together."""
    layers = 1 + len(images.earlier)
    budget = Budget.for_device(images.residual.device).shared_by(layers)
    return budget.chunk // elements_per_mask(images, images.residual.shape[1])


def work_together(maps: Sequence[Relevance], counts: Sequence[int]) -> Relevance:
    """The maps of several images of one model and grid as one, whose tokens are so many of each
    image, in order; by one of the methods ``ATTENTION_MAPS``."""
    attention = [one for one in maps if isinstance(one, AttentionMap)]
    if attention:
        return AttentionMap.together(attention, counts)
    return LayeredMap.together([one for one in maps if isinstance(one, LayeredMap)], counts)
