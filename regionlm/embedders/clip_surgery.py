"""`clip_surgery`: patches through a second path of value-value attention."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from regionlm.backbones.clip_vit import ClipViT
from regionlm.embedders.dense import DenseEmbedder, DenseFeatures
from regionlm.embedders.inputs import check_count


class ClipSurgery(DenseEmbedder):
    """CLIP Surgery (Li et al. 2023), the architecture part: beside the last blocks runs a second
    stream that adds up value-value attention, its values taken from the original stream, without
    MLPs. Patches are read from it.

    Its "feature surgery" needs the texts one compares with and is no part of an embedding.

    Args:
        blocks: how many of the last blocks have the second path, >= 1 [6, published for every
            model; fewer if the model has fewer].
        backbone, size: see ``Embedder``.
    """

    def __init__(
        self, backbone: ClipViT, *, blocks: int = 6, size: int | tuple[int, int] | None = None
    ) -> None:
        super().__init__(backbone, size=size)
        self.blocks = min(check_count("blocks", blocks, least=1), len(backbone.blocks()))

    def features(self, pixels: Tensor) -> DenseFeatures:
        """See ``DenseEmbedder.features``."""
        x, grid = self.backbone.trunk(pixels, without=self.blocks)
        head, second = self.backbone.head(), x
        for block in self.backbone.blocks()[-self.blocks :]:
            x1, v = block.attend(x)
            second = second + block.attention_output(F.scaled_dot_product_attention(v, v, v))
            x = block.after_mlp(x1)
        return DenseFeatures(head.readout(second[:, 1:]), head.readout(head.pool(x)), grid)
