"""`sclip`: patches through correlative self-attention in the last block."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from regionlm.backbones.clip_vit import ClipViT
from regionlm.embedders.dense import DenseEmbedder, DenseFeatures, refuse_attention_pool


class Sclip(DenseEmbedder):
    """SCLIP (Wang et al. 2023): the last block attends by query-query plus key-key similarity, two
    softmaxes whose sum is not halved; its residual stream and MLP stay.

    One pass over the squashed image; the published segmentation averages windows of 224 pixels.
    An attention pool has one query, not one a patch, so such models are refused. Options:
    ``EmbedderOptions``.
    """

    def __init__(self, backbone: ClipViT, **options: Any) -> None:
        refuse_attention_pool("sclip", backbone)
        super().__init__(backbone, **options)

    def features(self, pixels: Tensor) -> DenseFeatures:
        """See ``DenseEmbedder.features``."""
        x, grid = self.backbone.trunk(pixels)
        head = self.backbone.head().at(grid)
        q, k, v = head.block.qkv(x)
        mixed = F.scaled_dot_product_attention(q, q, v) + F.scaled_dot_product_attention(k, k, v)
        tokens = head.block.after_mlp(x + head.block.attention_output(mixed))
        return DenseFeatures(head.readout(tokens[:, head.prefix :]), head.embed(x), grid)
