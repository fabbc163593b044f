"""Frozen open_clip ViTs: images and texts to the joint space, and what inversion needs besides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from regionlm.backbones.blocks import BlockWeights, LayerNormWeights, read_block, read_layer_norm
from regionlm.backbones.positions import resample_positions
from regionlm.backbones.sizes import grid_of, resolve_size
from regionlm.errors import InputError, ModelError

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)

_T = TypeVar("_T")
_MOST_DERIVED = 16  # grids and merged weights remembered per backbone

Pooling = Literal["cls", "mean"]
Tokenizer = Callable[[list[str]], Tensor]


@dataclass(frozen=True)
class Head:
    """Everything after the input of the last block's attention. D: width, d: joint space."""

    block: BlockWeights
    norm: LayerNormWeights
    proj: Tensor  # [D, d]
    pooling: Pooling

    def readout(self, pooled: Tensor) -> Tensor:
        """A pooled token of the last block's output ``[..., D]`` to the joint space."""
        return self.norm(pooled) @ self.proj

    def pool(self, x: Tensor) -> Tensor:
        """The token ``[B, D]`` that the model reads, of the last block's output ``[B, N, D]``."""
        return x[:, 0] if self.pooling == "cls" else x[:, 1:].mean(1)

    def embed(self, x: Tensor) -> Tensor:
        """Embeddings ``[B, d]``, unnormalised, of the last block's input ``[B, N, D]``."""
        x1, _ = self.block.attend(x)
        # Only pooled tokens go on, and the MLP's last layer is affine: it may see their mean.
        x1 = x1[:, :1] if self.pooling == "cls" else x1[:, 1:]
        activated = self.block.activation(self.block.mlp_input(x1))
        return self.readout(x1.mean(1) + self.block.mlp_output(activated.mean(1)))

    @property
    def pooled_tokens(self) -> slice:
        """The tokens that ``pool`` reads."""
        return slice(1, None) if self.pooling == "mean" else slice(0, 1)

    @property
    def score_tokens(self) -> slice:
        """Tokens whose mean LeGrad's score reads: all of a [CLS]-pooled model (the paper's choice),
        exactly the pooled (patch) tokens of a mean-pooled one."""
        return slice(1 if self.pooling == "mean" else 0, None)


@dataclass(frozen=True)
class EncodedImages:
    """B images of one size after one trunk forward; tokens are [CLS], then patches row by row.

    ``embeddings [B, d]`` unnormalised; ``block_input [B, N, D]`` of the last block; ``residual
    [B, N, D]`` the stream after its attention; ``values [B, heads, N, dh]`` of that attention;
    ``pre_activation [B, N, F]`` of its MLP; ``score_mean [B, D]`` the mean of its output over
    ``head.score_tokens``.
    """

    embeddings: Tensor
    block_input: Tensor
    residual: Tensor
    values: Tensor
    pre_activation: Tensor
    score_mean: Tensor
    grid: tuple[int, int]
    patch_size: tuple[int, int]
    head: Head

    def __len__(self) -> int:
        return self.embeddings.shape[0]

    @torch.no_grad()
    def attention(self, index: int, rows: slice = slice(None)) -> Tensor:
        """The last block's attention in image ``index``: ``[heads, r, N]`` after softmax, of the
        queries ``rows``; computed now, for the encoder's fast attention never shows it."""
        return self.head.block.attention(self.block_input[index, None], rows)[0]


class ClipViT:
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
        self.model = model
        self.tokenizer = tokenizer
        self.name = name
        self.inversion_defaults = dict(inversion_defaults or {})
        self.config = None if config is None else dict(config)
        visual: Any = getattr(model, "visual", None)
        self.pooling: Pooling = _read_pooling(visual, name)
        self._visual: Any = visual
        self._derived: dict[str, tuple[Any, Any]] = {}
        blocks = self.blocks()
        self.dim: int = self._visual.proj.shape[1]
        self.width: int = self._visual.proj.shape[0]
        self.heads: int = blocks[-1].heads
        self.patch_size: tuple[int, int] = tuple(self._visual.conv1.kernel_size)
        self.default_size: tuple[int, int] = tuple(self._visual.image_size)
        preprocess = getattr(visual, "preprocess_cfg", None) or {}
        self.mean = tuple(float(x) for x in (mean or preprocess.get("mean") or OPENAI_MEAN))
        self.std = tuple(float(x) for x in (std or preprocess.get("std") or OPENAI_STD))

    @property
    def device(self) -> torch.device:
        """Where the model's image tower is."""
        return self._visual.proj.device

    @property
    def dtype(self) -> torch.dtype:
        """What the model's image tower computes in."""
        return self._visual.conv1.weight.dtype

    @property
    def logit_scale(self) -> float:
        """Factor on cosines before a softmax over texts (about 100 for trained CLIPs)."""
        return float(self.model.logit_scale.detach().exp())

    def to(self, device: str | torch.device) -> ClipViT:
        """Move the held model, as ``nn.Module.to`` does; returns self."""
        self.model.to(device)
        return self

    def preprocess(self, image: Image.Image, size: int | tuple[int, int] | None = None) -> Tensor:
        """Squash an image (no crop, bicubic) to ``size`` and normalise it.

        Args:
            image: any PIL mode; converted to RGB.
            size: input pixels, S for S x S or (H, W); multiples of the patch. Default: the model's.

        Returns:
            float32 ``[3, H, W]`` on the CPU.

        Raises:
            InputError: a size the model can't take.
        """
        height, width = resolve_size(self.default_size if size is None else size, self.patch_size)
        resized = image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(resized, dtype=np.float32)).permute(2, 0, 1) / 255
        mean, std = torch.tensor(self.mean), torch.tensor(self.std)
        return (pixels - mean[:, None, None]) / std[:, None, None]

    def encode(self, pixels: Tensor) -> EncodedImages:
        """Run the trunk once for ``pixels [B, 3, H, W]`` (normalised); see ``EncodedImages``.

        Raises:
            InputError: wrong shape, a size that is no multiple of the patch, or non-finite pixels.
        """
        with torch.inference_mode(False), torch.no_grad(), self._exact():
            x, grid = self.trunk(pixels)
            head = self.head()
            residual, values = head.block.attend(x)
            pre_activation = head.block.mlp_input(residual)
            # The MLP's last layer is affine, so the mean of its outputs needs one row, not N.
            activated = head.block.activation(pre_activation)
            tokens = head.score_tokens
            score_mean = residual[:, tokens].mean(1) + head.block.mlp_output(
                activated[:, tokens].mean(1)
            )
            pooled = score_mean
            if self.pooling == "cls":
                pooled = residual[:, 0] + head.block.mlp_output(activated[:, 0])
            return EncodedImages(
                head.readout(pooled), x, residual, values, pre_activation, score_mean,
                grid, self.patch_size, head,
            )  # fmt: skip

    def embed_images(self, pixels: Tensor) -> Tensor:
        """Image embeddings ``[B, d]``, unnormalised, of ``pixels [B, 3, H, W]``; no gradient.

        Equals ``model.encode_image`` at the model's own input size. Raises as ``encode``.
        """
        with torch.inference_mode(False), torch.no_grad(), self._exact():
            x, _ = self.trunk(pixels)
            return self.head().embed(x)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Text embeddings ``[T, d]``, unnormalised; no gradient.

        Raises:
            InputError: not a list of strings, or empty. ModelError: built without a tokenizer.
        """
        if isinstance(texts, str) or not all(isinstance(t, str) for t in texts) or not texts:
            raise InputError(f"texts: expected a non-empty list of strings, got {texts!r}")
        if self.tokenizer is None:
            raise ModelError(
                f"{self.name}: has no tokenizer; pass tokenizer= to ClipViT to embed texts"
            )
        with torch.inference_mode(False), torch.no_grad(), self._exact():
            tokens = self.tokenizer(list(texts)).to(self.device)
            return self.model.encode_text(tokens)

    def check_finite(self) -> None:
        """Raise ModelError naming the first parameter of the image tower that holds NaN or Inf."""
        for name, parameter in self._visual.named_parameters():
            if not torch.isfinite(parameter.detach()).all():
                raise ModelError(
                    f"{self.name}: visual.{name} holds NaN or Inf; the weights are damaged,"
                    " load them again"
                )

    def blocks(self) -> list[BlockWeights]:
        """The transformer blocks, read afresh: tensors alias the model's."""
        blocks = self._visual.transformer.resblocks
        return [read_block(b, f"{self.name}: block {i}") for i, b in enumerate(blocks)]

    def head(self) -> Head:
        """The last block and what follows it, read afresh."""
        norm = read_layer_norm(self._visual.ln_post, f"{self.name}: ln_post")
        return Head(self.blocks()[-1], norm, self._visual.proj, self.pooling)

    def trunk(
        self, pixels: Tensor, *, without: int = 1, added: Tensor | None = None
    ) -> tuple[Tensor, tuple[int, int]]:
        """Tokens before the last blocks. Call it under ``torch.no_grad``.

        Args:
            pixels: normalised ``[B, 3, H, W]``; sides that the patch divides, any aspect.
            without: how many of the last blocks not to run.
            added: ``[B, gh * gw, D]``, what other input channels give to the patch embeddings
                (AlphaCLIP's); one image takes any number of them, and B is that number.

        Returns:
            Tokens ``[B, 1 + gh * gw, D]``, [CLS] first, and the patch grid (gh, gw).

        Raises:
            InputError: as ``encode``.
        """
        visual, dtype, grid = self._visual, self.dtype, self._check_pixels(pixels)
        patches = F.conv2d(
            pixels.to(self.device, dtype), visual.conv1.weight, stride=self.patch_size
        )
        patches = patches.flatten(2).transpose(1, 2)
        if added is not None:
            patches = patches + added
        cls = visual.class_embedding.to(dtype).expand(len(patches), 1, -1)
        native = tuple(visual.grid_size)
        positions = self.derived(
            f"positions {grid}",
            [visual.positional_embedding],
            lambda: resample_positions(visual.positional_embedding, native, grid),
        )
        x = torch.cat([cls, patches], 1) + positions.to(dtype)
        if not isinstance(visual.ln_pre, nn.Identity):
            x = read_layer_norm(visual.ln_pre, f"{self.name}: ln_pre")(x)
        blocks = self.blocks()
        for block in blocks[: len(blocks) - without]:
            x = block(x)
        return x, grid

    def derived(self, key: str, sources: Sequence[Tensor], make: Callable[[], _T]) -> _T:
        """What ``make()`` computes from the model's tensors ``sources``, remembered under ``key``.

        Made again when a source was replaced or changed in place, and for inference tensors, which
        don't count their changes.
        """
        with torch.inference_mode(False), torch.no_grad():
            if any(source.is_inference() for source in sources):
                return make()
            state = [(s.data_ptr(), s._version, s.device, s.dtype) for s in sources]
            if key not in self._derived or self._derived[key][0] != state:
                if len(self._derived) >= _MOST_DERIVED:
                    self._derived.clear()
                self._derived[key] = (state, make())
            return self._derived[key][1]

    # ------------------------------------------------------------------------------------------

    def _exact(self) -> torch.autocast:
        """The model's own dtype decides; a surrounding autocast must not."""
        return torch.autocast(self.device.type, enabled=False)

    def _check_pixels(self, pixels: Tensor) -> tuple[int, int]:
        if pixels.ndim != 4 or pixels.shape[1] != 3 or not pixels.is_floating_point():
            raise InputError(
                f"pixels: expected normalised floats [B, 3, H, W], got {pixels.dtype}"
                f" {list(pixels.shape)}"
            )
        if not torch.isfinite(pixels).all():
            raise InputError("pixels: expected finite numbers, found NaN or Inf in the image")
        return grid_of((pixels.shape[2], pixels.shape[3]), self.patch_size)


def _read_pooling(visual: nn.Module | None, name: str) -> Pooling:
    """How the tower pools; ModelError for every tower that isn't a plain ViT we can read."""
    wanted = "expected an open_clip ViT pooled at [CLS] or over its patches"
    parts = ("conv1", "class_embedding", "positional_embedding", "ln_pre", "transformer", "ln_post")
    if visual is None or not all(hasattr(visual, part) for part in parts):
        raise ModelError(f"{name}: {wanted}, found image tower {type(visual).__name__}")
    if getattr(visual, "attn_pool", None) is not None:
        raise ModelError(f"{name}: {wanted}, found attention pooling (CoCa, SigLIP)")
    if getattr(visual, "proj", None) is None:
        raise ModelError(f"{name}: {wanted} with a projection, found none (visual.proj is None)")
    pool = getattr(visual, "pool_type", "tok")
    if pool == "tok":
        return "cls"  # layer norm before or after taking one token is the same
    if pool == "avg" and getattr(visual, "final_ln_after_pool", False):
        return "mean"
    detail = " with the layer norm before the pool" if pool == "avg" else ""
    raise ModelError(f"{name}: {wanted}, found pool_type {pool!r}{detail}")
