"""`maskclip`: patches through the values of the last attention, without its mixing."""

from __future__ import annotations

from torch import Tensor

from regionlm.backbones.clip_vit import ClipViT
from regionlm.embedders.dense import DenseEmbedder, DenseFeatures


class MaskClip(DenseEmbedder):
    """MaskCLIP (Zhou et al. 2022): in the last block every patch takes its own value instead of the
    attention's mixture.

    Without the prompt denoising and key smoothing that the published code can add for segmentation;
    both are off by default there.

    Args:
        value_only: leave out the last block's residual stream and MLP too, as many later codes do;
            the published ViT code keeps both.
        backbone, size: see ``Embedder``.
    """

    def __init__(
        self,
        backbone: ClipViT,
        *,
        value_only: bool = False,
        size: int | tuple[int, int] | None = None,
    ) -> None:
        super().__init__(backbone, size=size)
        self.value_only = value_only

    def features(self, pixels: Tensor) -> DenseFeatures:
        """See ``DenseEmbedder.features``."""
        x, grid = self.backbone.trunk(pixels)
        head = self.backbone.head()
        _, _, values = head.block.qkv(x)
        tokens = head.block.attention_output(values)
        if not self.value_only:
            tokens = head.block.after_mlp(x + tokens)
        return DenseFeatures(head.readout(tokens[:, 1:]), head.embed(x), grid)
