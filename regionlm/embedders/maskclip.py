"""`maskclip`: patches through the values of the last attention, without its mixing."""

from __future__ import annotations

from torch import Tensor

from regionlm.embedders.dense import DenseEmbedder, DenseFeatures
from regionlm.embedders.options import MaskClipOptions


class MaskClip(DenseEmbedder):
    """MaskCLIP (Zhou et al. 2022): in the last block every patch takes its own value instead of the
    attention's mixture.

    Without the prompt denoising and key smoothing that the published code can add for segmentation;
    both are off by default there. An attention pool counts as the last block, so a patch is what
    the model would give if it pooled that patch alone. Options: ``MaskClipOptions``.
    """

    options_type = MaskClipOptions
    options: MaskClipOptions

    def features(self, pixels: Tensor) -> DenseFeatures:
        """See ``DenseEmbedder.features``."""
        x, grid = self.backbone.trunk(pixels)
        head = self.backbone.head().at(grid)
        _, _, values = head.block.qkv(x)
        if self.options.value_only:
            tokens = head.block.attention_output(values)
        else:
            tokens = head.block.after_mlp(head.block.after_attention(x, values))
        return DenseFeatures(head.readout(tokens[:, head.prefix :]), head.embed(x), grid)
