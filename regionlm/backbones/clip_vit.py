"""Frozen open_clip ViTs: embed images and texts, and provide what inversion needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from regionlm.backbones.blocks import BlockWeights
from regionlm.backbones.hf_siglip import SiglipTower, is_siglip_tower
from regionlm.backbones.open_clip_insides import ImageTower, text_tokens
from regionlm.backbones.positions import resample_positions
from regionlm.backbones.text_tokenizers import whole_characters
from regionlm.backbones.timm_insides import TimmTower, is_timm_tower
from regionlm.backbones.tower import Tower
from regionlm.backbones.trunk_options import TrunkOptions
from regionlm.backbones.trunk_run import check_trunk_options, run_blocks
from regionlm.backbones.vision import Head, VisionBackbone
from regionlm.errors import TAKE_ANOTHER, InputError, ModelError

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)

Tokenizer = Callable[[list[str]], Tensor]


class ClipViT(VisionBackbone):
    """A frozen open_clip model whose image tower is a ViT: open_clip's own, or timm's.

    Args:
        model: an open_clip ``CLIP`` or ``CustomTextCLIP``. It is never changed: no hooks, flags or
            tensors are set. It may be trained elsewhere; every call reads the current weights.
        tokenizer: ``list[str] -> LongTensor [T, context]``; only ``embed_texts`` needs it.
        mean, std: input normalisation, RGB; by default the model's ``preprocess_cfg`` or OpenAI's.
        name: shown in messages and reports.
        inversion_defaults: MaskInversion options (steps, lr, alpha, weight_decay, size, score,
            relevance) that suit this model; the defaults of ``MaskInversion``.
        config: open_clip's ``model_cfg`` of the model; only saving needs it.

    Raises:
        ModelError: the image tower is of a kind that is not supported (the message says which).
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        tokenizer: Tokenizer | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        name: str = "custom",
        inversion_defaults: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(name, inversion_defaults)
        self.model = model
        self.tokenizer = tokenizer
        self.config = None if config is None else dict(config)
        visual = getattr(model, "visual", None)
        try:
            self._parts: Tower = _read_tower(visual, name)
            self.blocks()  # raises if one of them can't be read
            self.heads: int = self.head().block.heads
        except ModelError as error:
            raise ModelError(f"{error}{TAKE_ANOTHER}") from error
        self.pooling = self._parts.pooling
        self.width, self.dim = self._parts.width, self._parts.dim
        self.patch_size, self.default_size = self._parts.patch_size, self._parts.image_size
        preprocess = self._parts.preprocess
        self.mean = tuple(float(x) for x in (mean or preprocess.get("mean") or OPENAI_MEAN))
        self.std = tuple(float(x) for x in (std or preprocess.get("std") or OPENAI_STD))

    @property
    def tower(self) -> nn.Module:
        """``model.visual``."""
        return self._parts.module

    @property
    def device(self) -> torch.device:
        """The image tower's device."""
        return self._parts.patch_weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The image tower's dtype."""
        return self._parts.patch_weight.dtype

    @property
    def logit_scale(self) -> float:
        """Factor of cosines in a softmax over texts (about 100 in trained CLIPs and SigLIPs)."""
        return float(self.model.logit_scale.detach().exp())

    def to(self, device: str | torch.device) -> ClipViT:
        """Move the model, as ``nn.Module.to`` does; returns self."""
        self.model.to(device)
        return self

    def set_trunk(self, **options: Any) -> ClipViT:
        """Choose how the trunk is computed from now on, for images only; returns self.

        The model itself is not changed, and no second copy of its weights is kept.

        Args:
            **options: the fields of ``TrunkOptions``: ``precision`` and ``compile``.

        Raises:
            InputError: an unknown option, or one that does not work on the model's device or makes
                nothing faster there.
        """
        chosen = TrunkOptions.read(options, "the trunk")
        check_trunk_options(chosen, self.device, self.dtype)
        self.trunk_options = chosen
        return self

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Text embeddings ``[T, d]``, unnormalised, without gradient.

        Raises:
            InputError: not a list of strings, or an empty one.
            ModelError: there is no tokenizer, or it is another model's.
        """
        if isinstance(texts, str) or not all(isinstance(t, str) for t in texts) or not texts:
            raise InputError(f"texts: expected a non-empty list of strings, found {texts!r}")
        if self.tokenizer is None:
            raise ModelError(
                f"{self.name}: has no tokenizer; pass tokenizer= to ClipViT to embed texts"
            )
        with torch.inference_mode(False), torch.no_grad(), self._exact():
            tokens = self.tokenizer([whole_characters(text) for text in texts])
            self._check_tokens(int(tokens.max()))
            # CoCa's normalises unless told not to.
            return self.model.encode_text(tokens.to(self.device), normalize=False)

    def _check_tokens(self, highest: int) -> None:
        """Check token ids beforehand, because on a GPU an unknown one kills the process."""
        known = text_tokens(self.model)
        if known is not None and highest >= known:
            raise ModelError(
                f"{self.name}: its tokenizer gives the token {highest}, but its text tower has only"
                f" {known} tokens; they belong to different models"
            )

    def blocks(self) -> list[BlockWeights]:
        """The transformer blocks; their tensors are the model's current ones."""
        return self._parts.blocks()

    def head(self) -> Head:
        """The last block and what follows it, with the model's current tensors."""
        return self._parts.head()

    def trunk(
        self, pixels: Tensor, *, without: int = 1, added: Tensor | None = None
    ) -> tuple[Tensor, tuple[int, int]]:
        """See ``VisionBackbone.trunk``; ``pixels`` may have any size that the patch divides.

        ``added``, ``[B, gh * gw, D]``, is added to the patch embeddings, for other input channels
        (AlphaCLIP's). With a single image, B may be any number.
        """
        parts, dtype, grid = self._parts, self.dtype, self._check_pixels(pixels)
        patches = parts.embed_patches(pixels.to(self.device, dtype))
        if added is not None:
            patches = patches + added
        before = parts.prefix_tokens().to(dtype).expand(len(patches), -1, -1)
        x = torch.cat([before, patches], 1)
        table = parts.positions()
        if table is not None:
            positions = self._positions(table, grid).to(dtype)
            # The tokens before the patches have positions, or none of them has.
            x[:, x.shape[1] - len(positions) :] += positions
        norm = parts.norm_before()
        x = x if norm is None else norm(x)
        blocks = parts.blocks()
        stages = len(blocks) + (self.pooling == "attention")
        placed = [block.at(grid) for block in blocks[: stages - without]]
        return run_blocks(x, placed, self.trunk_options), grid

    def _positions(self, table: Tensor, grid: tuple[int, int]) -> Tensor:
        parts = self._parts
        return self.derived(
            f"positions {grid}",
            [table],
            lambda: resample_positions(table, parts.grid, grid, parts.interpolation),
        )


def _read_tower(visual: nn.Module | None, name: str) -> Tower:
    if is_siglip_tower(visual):
        return SiglipTower(visual, name)
    return TimmTower(visual, name) if is_timm_tower(visual) else ImageTower(visual, name)
