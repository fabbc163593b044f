"""SigLIP of transformers as a model that `ClipViT` takes: its image tower and its calls.

All our knowledge of ``SiglipModel`` and ``Siglip2Model``, but for their blocks, is here.
tests/regionlm/backbones/test_hf_siglip checks it against transformers itself.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regionlm.backbones.attention_pool import AttentionPool
from regionlm.backbones.blocks import BlockWeights, LayerNormWeights, read_layer_norm
from regionlm.backbones.hf_blocks import hf_projections, read_hf_block
from regionlm.backbones.positions import Interpolation
from regionlm.backbones.vision import Head, Pooling
from regionlm.errors import ModelError

#: ``model_type`` of the models, and of their image towers; the second takes images of any shape.
SIGLIP, SIGLIP2 = "siglip", "siglip2"
_TOWERS = ("siglip_vision_model", "siglip2_vision_model")


class SiglipAsClip(nn.Module):
    """A ``SiglipModel`` or ``Siglip2Model`` with the calls of an open_clip model."""

    def __init__(self, siglip: Any) -> None:
        super().__init__()
        self.siglip = siglip

    @property
    def visual(self) -> nn.Module:
        """The image tower."""
        return self.siglip.vision_model

    @property
    def logit_scale(self) -> Tensor:
        """Logarithm of the factor of cosines."""
        return self.siglip.logit_scale

    @property
    def logit_bias(self) -> Tensor:
        """What is added to cosines times their factor."""
        return self.siglip.logit_bias

    @property
    def token_embedding(self) -> nn.Module:
        """The text tower's embeddings of tokens."""
        return self.siglip.get_input_embeddings()

    def encode_text(self, tokens: Tensor, normalize: bool = False) -> Tensor:
        """Text embeddings ``[T, d]`` of token ids ``[T, context]``."""
        found = self.siglip.text_model(input_ids=tokens).pooler_output
        return F.normalize(found, dim=1) if normalize else found


def is_siglip_tower(visual: nn.Module | None) -> bool:
    """Whether this is the image tower of such a model."""
    return getattr(getattr(visual, "config", None), "model_type", None) in _TOWERS


class SiglipTower:
    """A `Tower`: the parts of transformers' SigLIP image tower, with its current tensors.

    SigLIP 2 of transformers (NaFlex) was trained on grids of any shape: it holds positions for a
    square one and resizes them for every image. Its ``image_size`` here is that square's.

    Args:
        visual: ``SiglipModel.vision_model``.
        name: the model's name, for messages.

    Raises:
        ModelError: it has no attention pooling, or an unknown activation.
    """

    pooling: Pooling = "attention"
    prefix = 0

    def __init__(self, visual: nn.Module | None, name: str) -> None:
        tower: Any = visual
        self.module = tower
        self._name = name
        if getattr(tower, "head", None) is None:
            raise ModelError(f"{name}: expected SigLIP's attention pooling, found none")
        self._is_naflex = tower.config.model_type == _TOWERS[1]
        self.interpolation: Interpolation = "bilinear" if self._is_naflex else "bicubic"
        self.head()  # refuses what can't be read

    @property
    def patch_weight(self) -> Tensor:
        """``[D, 3, P, P]``, or ``[D, P * P * 3]`` of a NaFlex model."""
        return self.module.embeddings.patch_embedding.weight

    @property
    def width(self) -> int:
        """Width D of the tokens."""
        return int(self.module.config.hidden_size)

    @property
    def patch_size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        side = int(self.module.config.patch_size)
        return side, side

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels of the model's input, without pixels that no patch covers."""
        (rows, columns), (height, width) = self.grid, self.patch_size
        return rows * height, columns * width

    @property
    def grid(self) -> tuple[int, int]:
        """Patches per column and row of such an image."""
        side = int(len(self.positions()) ** 0.5 + 0.5)
        return side, side

    @property
    def dim(self) -> int:
        """Width d of the joint space."""
        return self.width

    @property
    def preprocess(self) -> dict[str, Any]:
        """Preprocessing, if the model knew any."""
        return {}

    def embed_patches(self, pixels: Tensor) -> Tensor:
        """Patches ``[B, gh * gw, D]`` of pixels."""
        weight, bias = self.patch_weight, self.module.embeddings.patch_embedding.bias
        if self._is_naflex:  # a linear layer, to which a pixel's channels come together
            weight = weight.unflatten(1, (*self.patch_size, -1)).permute(0, 3, 1, 2)
        return F.conv2d(pixels, weight, bias, self.patch_size).flatten(2).transpose(1, 2)

    def prefix_tokens(self) -> Tensor:
        """No tokens come before the patches: ``[0, D]``."""
        return self.positions()[:0]

    def positions(self) -> Tensor:
        """``[gh * gw, D]``."""
        return self.module.embeddings.position_embedding.weight

    def norm_before(self) -> LayerNormWeights | None:
        """There is no norm before the blocks."""
        return None

    def blocks(self) -> list[BlockWeights]:
        """The transformer blocks."""
        layers = self.module.encoder.layers
        return [read_hf_block(one, f"{self._name}: block {i}") for i, one in enumerate(layers)]

    @torch.inference_mode(False)
    @torch.no_grad()
    def head(self) -> Head:
        """The attention pooling; the pooled token is the embedding."""
        pool, where = self.module.head, f"{self._name}: head"
        attention = pool.attention
        weight, width = attention.in_proj_weight, self.dim
        bias = attention.in_proj_bias
        query = F.linear(pool.probe[0], weight[:width], bias[:width])
        block = AttentionPool(
            query=query.view(attention.num_heads, 1, -1),
            norm_1=read_layer_norm(self.module.post_layernorm, f"{self._name}: post_layernorm"),
            qkv_weight=weight[width:].chunk(2),
            qkv_bias=bias[width:].chunk(2),
            norm_2=read_layer_norm(pool.layernorm, f"{where}.layernorm"),
            **hf_projections(attention, pool.mlp, where),
        )
        return Head(block, None, None, self.pooling, self.prefix)
