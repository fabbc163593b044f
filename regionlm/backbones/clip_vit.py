"""Frozen open_clip ViTs: images and texts to the joint space, and what inversion needs besides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regionlm.backbones.blocks import BlockWeights
from regionlm.backbones.open_clip_insides import ImageTower, text_tokens
from regionlm.backbones.positions import resample_positions
from regionlm.backbones.text_tokenizers import whole_characters
from regionlm.backbones.vision import Head, VisionBackbone
from regionlm.errors import InputError, ModelError

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)

Tokenizer = Callable[[list[str]], Tensor]


class ClipViT(VisionBackbone):
    """A frozen open_clip model whose image tower is a plain ViT, [CLS]- or mean-pooled.

    Args:
        model: an open_clip ``CLIP`` or ``CustomTextCLIP``. It is read, never changed: no hooks, no
            flags flipped, nothing written to its tensors. It may keep training elsewhere; every
            call reads the current weights.
        tokenizer: ``list[str] -> LongTensor [T, context]``; needed by ``embed_texts`` only.
        mean, std: input normalisation, RGB; default: the model's ``preprocess_cfg``, else OpenAI's.
        name: shown in messages and reports.
        inversion_defaults: MaskInversion options (steps, lr, alpha, weight_decay, size, score,
            relevance) that suit this model; used where the caller of ``MaskInversion`` gives none.
        config: open_clip's ``model_cfg`` that the model was built from; needed to save it only.

    Raises:
        ModelError: the image tower has a shape this class can't read (says which).
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
        self._parts = ImageTower(getattr(model, "visual", None), name)
        self.pooling = self._parts.pooling
        self.width, self.dim = self._parts.projection.shape
        self.heads: int = self.blocks()[-1].heads
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
        """Where the model's image tower is."""
        return self._parts.projection.device

    @property
    def dtype(self) -> torch.dtype:
        """What the model's image tower computes in."""
        return self._parts.patch_weight.dtype

    @property
    def logit_scale(self) -> float:
        """Factor on cosines before a softmax over texts (about 100 for trained CLIPs)."""
        return float(self.model.logit_scale.detach().exp())

    def to(self, device: str | torch.device) -> ClipViT:
        """Move the held model, as ``nn.Module.to`` does; returns self."""
        self.model.to(device)
        return self

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Text embeddings ``[T, d]``, unnormalised; no gradient. A lone surrogate is U+FFFD.

        Raises:
            InputError: not a list of strings, or empty. ModelError: built without a tokenizer, or
                with that of another model.
        """
        if isinstance(texts, str) or not all(isinstance(t, str) for t in texts) or not texts:
            raise InputError(f"texts: expected a non-empty list of strings, got {texts!r}")
        if self.tokenizer is None:
            raise ModelError(
                f"{self.name}: has no tokenizer; pass tokenizer= to ClipViT to embed texts"
            )
        with torch.inference_mode(False), torch.no_grad(), self._exact():
            tokens = self.tokenizer([whole_characters(text) for text in texts])
            self._check_tokens(int(tokens.max()))
            return self.model.encode_text(tokens.to(self.device))

    def _check_tokens(self, highest: int) -> None:
        """Before the model sees them: on a GPU an unknown token ends the whole process."""
        known = text_tokens(self.model)
        if known is not None and highest >= known:
            raise ModelError(
                f"{self.name}: its tokenizer gives the token {highest}, but its text tower has only"
                f" {known} tokens; they belong to different models"
            )

    def blocks(self) -> list[BlockWeights]:
        """The transformer blocks, read afresh: tensors alias the model's."""
        return self._parts.blocks()

    def head(self) -> Head:
        """The last block and what follows it, read afresh."""
        parts = self._parts
        return Head(parts.last_block(), parts.norm_after(), parts.projection, self.pooling)

    def trunk(
        self, pixels: Tensor, *, without: int = 1, added: Tensor | None = None
    ) -> tuple[Tensor, tuple[int, int]]:
        """See ``VisionBackbone.trunk``; ``pixels`` of any size and aspect that the patch divides.

        ``added``, ``[B, gh * gw, D]``, is what other input channels give to the patch embeddings
        (AlphaCLIP's); one image takes any number of them, and B is that number.
        """
        parts, dtype, grid = self._parts, self.dtype, self._check_pixels(pixels)
        patches = F.conv2d(
            pixels.to(self.device, dtype), parts.patch_weight, stride=self.patch_size
        )
        patches = patches.flatten(2).transpose(1, 2)
        if added is not None:
            patches = patches + added
        cls = parts.class_token.to(dtype).expand(len(patches), 1, -1)
        table = parts.positions
        positions = self.derived(
            f"positions {grid}", [table], lambda: resample_positions(table, parts.grid, grid)
        )
        x = torch.cat([cls, patches], 1) + positions.to(dtype)
        norm = parts.norm_before()
        x = x if norm is None else norm(x)
        blocks = parts.blocks()
        for block in blocks[: len(blocks) - without]:
            x = block(x)
        return x, grid
