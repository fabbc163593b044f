"""The CLIP image tower in a transformers model, such as a LLaVA."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from prefix_models.lm.calling import in_eval_mode
from regionlm.backbones.blocks import BlockWeights, read_layer_norm
from regionlm.backbones.hf_blocks import read_hf_block
from regionlm.backbones.vision import Head, VisionBackbone
from regionlm.errors import InputError, ModelError


class HfClipViT(VisionBackbone):
    """A frozen ``CLIPVisionModel`` of transformers, as a backbone.

    Such a tower has no projection to a joint space with texts. Its embedding is the [CLS] token
    after ``post_layernorm``, of width D (``pooler_output`` in transformers). Relevance and
    inversion need no texts and work in this space as in any other. The tower's own forward computes
    the tokens; only the last block and the norm after it are read as weights.

    Args:
        tower: a ``CLIPVisionModel``; it is not changed.
        mean, std: input normalisation, RGB.
        name: shown in messages.

    Raises:
        ModelError: the tower is not CLIP's, or has an unknown activation.
    """

    def __init__(
        self, tower: nn.Module, *, mean: Sequence[float], std: Sequence[float], name: str = "custom"
    ) -> None:
        config: Any = getattr(tower, "config", None)
        kind = getattr(config, "model_type", type(tower).__name__)
        if kind != "clip_vision_model":
            raise ModelError(
                f"{name}: expected CLIP's image tower (clip_vision_model), found {kind}"
            )
        side, patch = config.image_size, config.patch_size
        super().__init__(name, {"size": side})
        self._tower = tower
        self._parts: Any = getattr(
            tower, "vision_model", tower
        )  # transformers 4 had one more level
        self.dim = self.width = config.hidden_size
        self.heads: int = config.num_attention_heads
        self.patch_size, self.default_size = (patch, patch), (side, side)
        self.mean, self.std = tuple(mean), tuple(std)
        self.pooling = "cls"
        self.head()  # refuses what can't be read

    @property
    def tower(self) -> nn.Module:
        """The ``CLIPVisionModel``."""
        return self._tower

    @property
    def device(self) -> torch.device:
        """The tower's device."""
        return self._parts.post_layernorm.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The tower's dtype."""
        return self._parts.post_layernorm.weight.dtype

    def blocks(self) -> list[BlockWeights]:
        """The transformer blocks."""
        return [self._block(number) for number in range(len(self._parts.encoder.layers))]

    def head(self) -> Head:
        """The last block, the norm after it, and an identity in place of a projection."""
        norm = read_layer_norm(self._parts.post_layernorm, f"{self.name}: post_layernorm")
        weight = norm.weight
        proj = self.derived("identity", [weight], lambda: torch.eye(self.dim).to(weight))
        return Head(
            self._block(len(self._parts.encoder.layers) - 1), norm, proj, self.pooling, prefix=1
        )

    def check_size(self, pixels: Tensor) -> None:
        """Raise InputError if the pixels are not finite or not of the tower's size."""
        self._check_pixels(pixels)
        if tuple(pixels.shape[2:]) != self.default_size:
            raise InputError(
                f"size: {self.name} takes {self.default_size[0]} x {self.default_size[1]} pixels"
                f" only, found {pixels.shape[2]} x {pixels.shape[3]}; leave the size out"
            )

    def trunk(self, pixels: Tensor, *, without: int = 1) -> tuple[Tensor, tuple[int, int]]:
        """See ``VisionBackbone.trunk``; ``pixels`` must have the tower's own size."""
        self.check_size(pixels)
        with in_eval_mode(self._tower):
            output = self._tower(pixels.to(self.device, self.dtype), output_hidden_states=True)
        return output.hidden_states[-1 - without], self.grid

    @property
    def grid(self) -> tuple[int, int]:
        """Patches in a column and in a row."""
        return (
            self.default_size[0] // self.patch_size[0],
            self.default_size[1] // self.patch_size[1],
        )

    def _block(self, number: int) -> BlockWeights:
        where = f"{self.name}: block {number}"
        return read_hf_block(self._parts.encoder.layers[number], where)
