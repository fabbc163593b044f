"""`clip_surgery`: patches through a second path of value-value attention."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from regionlm.backbones.clip_vit import ClipViT
from regionlm.embedders.dense import DenseEmbedder, DenseFeatures, refuse_attention_pool
from regionlm.embedders.options import ClipSurgeryOptions


class ClipSurgery(DenseEmbedder):
    """CLIP Surgery (Li et al. 2023), the architecture part: beside the last blocks runs a second
    stream that adds up value-value attention, its values taken from the original stream, without
    MLPs. Patches are read from it.

    Its "feature surgery" needs the texts one compares with and is no part of an embedding.
    An attention pool reads no token by itself, so such models are refused. Options:
    ``ClipSurgeryOptions``.
    """

    options_type = ClipSurgeryOptions
    options: ClipSurgeryOptions

    def __init__(self, backbone: ClipViT, **options: Any) -> None:
        refuse_attention_pool("clip_surgery", backbone)
        super().__init__(backbone, **options)
        blocks = min(self.options.blocks, len(backbone.blocks()))
        self.options = replace(self.options, blocks=blocks)

    def features(self, pixels: Tensor) -> DenseFeatures:
        """See ``DenseEmbedder.features``."""
        x, grid = self.backbone.trunk(pixels, without=self.options.blocks)
        head, second = self.backbone.head(), x
        for block in self.backbone.blocks()[-self.options.blocks :]:
            x1, v = block.at(grid).attend(x)
            second = second + block.attention_output(F.scaled_dot_product_attention(v, v, v))
            x = block.after_mlp(x1)
        return DenseFeatures(
            head.readout(second[:, head.prefix :]), head.readout(head.pool(x)), grid
        )
