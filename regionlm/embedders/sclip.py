"""`sclip`: patches through correlative self-attention in the last block."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from regionlm.embedders.dense import DenseEmbedder, DenseFeatures


class Sclip(DenseEmbedder):
    """SCLIP (Wang et al. 2023): the last block attends by query-query plus key-key similarity, two
    softmaxes whose sum is not halved; its residual stream and MLP stay.

    One pass over the squashed image; the published segmentation averages windows of 224 pixels.
    Options: ``EmbedderOptions``.
    """

    def features(self, pixels: Tensor) -> DenseFeatures:
        """See ``DenseEmbedder.features``."""
        x, grid = self.backbone.trunk(pixels)
        head = self.backbone.head().at(grid)
        q, k, v = head.block.qkv(x)
        mixed = F.scaled_dot_product_attention(q, q, v) + F.scaled_dot_product_attention(k, k, v)
        tokens = head.block.after_mlp(x + head.block.attention_output(mixed))
        return DenseFeatures(head.readout(tokens[:, head.prefix :]), head.embed(x), grid)
