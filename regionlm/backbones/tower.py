"""What `ClipViT` asks of an image tower, whichever library wrote it."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor, nn

from regionlm.backbones.blocks import BlockWeights, LayerNormWeights
from regionlm.backbones.positions import Interpolation
from regionlm.backbones.vision import Head, Pooling


class Tower(Protocol):
    """The parts of an image tower, always with the module's current tensors. D: width.

    Its tokens are patches, after ``prefix`` others; it adds positions to all of them or to the
    patches alone, if it has any, and normalises them if ``norm_before`` is not None.
    """

    module: Any
    pooling: Pooling
    prefix: int
    """Number of tokens before the patches: [CLS] and registers, if there are any."""
    interpolation: Interpolation
    """How positions are resized to another patch grid."""

    def __init__(self, visual: nn.Module | None, name: str) -> None:
        """Raise ModelError if ``visual`` is of another kind; ``name`` is the model's."""

    @property
    def patch_weight(self) -> Tensor:
        """A weight of what embeds patches; it has the tower's dtype and device."""

    @property
    def width(self) -> int:
        """Width D of the tokens."""

    @property
    def patch_size(self) -> tuple[int, int]:
        """(height, width) in pixels."""

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels of the model's input."""

    @property
    def grid(self) -> tuple[int, int]:
        """Patches per column and row of such an image."""

    @property
    def dim(self) -> int:
        """Width d of the joint space."""

    @property
    def preprocess(self) -> dict[str, Any]:
        """The model's preprocessing (mean and std), if it has any."""

    def embed_patches(self, pixels: Tensor) -> Tensor:
        """Patches ``[B, gh * gw, D]``, row by row, of pixels ``[B, 3, H, W]``."""

    def prefix_tokens(self) -> Tensor:
        """The tokens before the patches, ``[prefix, D]``."""

    def positions(self) -> Tensor | None:
        """``[p + gh * gw, D]`` of the model's own ``grid``; p is ``prefix`` or 0. None without."""

    def norm_before(self) -> LayerNormWeights | None:
        """The norm before the blocks; None if the model has none."""

    def blocks(self) -> list[BlockWeights]:
        """The transformer blocks."""

    def head(self) -> Head:
        """The last block and what follows it."""
