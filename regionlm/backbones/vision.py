"""Frozen image encoders for MaskInversion: a trunk, and a head that is explained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from regionlm.backbones.blocks import BlockWeights, LayerNormWeights
from regionlm.backbones.checksums import checksum
from regionlm.backbones.sizes import grid_of, resolve_size
from regionlm.backbones.trunk_options import TrunkOptions
from regionlm.errors import InputError, ModelError
from regionlm.inputs.images import as_image
from regionlm.inputs.placement import Resize, place

_T = TypeVar("_T")
_MOST_DERIVED = 64  # grids and merged weights remembered per backbone

Pooling = Literal["cls", "mean", "attention"]
"""What is pooled: the first token, the mean of the patches, or what a learned query attends to."""


@dataclass(frozen=True)
class Head:
    """Everything after the input of the last block's attention. D: width, d: joint space.

    ``prefix`` is the number of tokens before the patches: [CLS] and registers, if there are any.
    The last block of an attention-pooled model is its ``AttentionPool``. There, D is the width of
    the pooled token.
    """

    block: BlockWeights
    norm: LayerNormWeights | None
    proj: Tensor | None  # [D, d]
    pooling: Pooling
    prefix: int
    proj_bias: Tensor | None = None  # [d]

    def at(self, grid: tuple[int, int]) -> Head:
        """The head for images of a patch grid (see ``BlockWeights.at``)."""
        return replace(self, block=self.block.at(grid))

    def readout(self, pooled: Tensor) -> Tensor:
        """A pooled token of the last block's output ``[..., D]`` to the joint space."""
        found = pooled if self.norm is None else self.norm(pooled)
        found = found if self.proj is None else found @ self.proj
        return found if self.proj_bias is None else found + self.proj_bias

    def pool(self, x: Tensor) -> Tensor:
        """The pooled token ``[B, D]`` of the last block's output ``[B, N, D]``."""
        return x[:, self.pooled_tokens].mean(1)

    def embed(self, x: Tensor) -> Tensor:
        """Embeddings ``[B, d]``, unnormalised, of the last block's input ``[B, N, D]``."""
        return torch.cat([self._embed_one(one) for one in x.split(1)])  # same bits in any company

    def _embed_one(self, x: Tensor) -> Tensor:
        x1, _ = self.block.attend(x)
        # Only pooled tokens are needed, and the MLP's last layer is affine: it can take their mean.
        x1 = x1[:, self.pooled_tokens]
        hidden = self.block.hidden(self.block.mlp_input(x1))
        return self.readout(x1.mean(1) + self.block.mlp_output(hidden.mean(1)))

    @property
    def pooled_tokens(self) -> slice:
        """The tokens that ``pool`` reads."""
        return slice(self.prefix, None) if self.pooling == "mean" else slice(0, 1)

    @property
    def score_tokens(self) -> slice:
        """Tokens whose mean gives LeGrad's score: all tokens of a [CLS]-pooled model, as in the
        paper, the pooled (patch) tokens of a mean-pooled one, and an attention pool's only one."""
        return slice(self.prefix if self.pooling == "mean" else 0, None)


@dataclass(frozen=True)
class EncodedImages:
    """B images of one size after one trunk forward; tokens are ``head.prefix`` others ([CLS],
    registers), then patches row by row.

    ``embeddings [B, d]`` unnormalised; ``block_input [B, N, D]`` of the last block; ``residual
    [B, N, D]`` the stream after its attention; ``values [B, heads, N, dh]`` of that attention;
    ``pre_activation [B, N, F]`` of its MLP; ``score_mean [B, D]`` the mean of its output over
    ``head.score_tokens``. ``earlier`` holds the same for blocks before the last, in order, each as
    if its output were the model's; it is empty unless asked for.

    The last block of an attention-pooled model is its pool (``AttentionPool``): ``block_input`` is
    the transformer's output, ``values`` are of N tokens, and everything after them of one, the
    pooled. Its ``earlier`` holds the pool of the outputs of earlier blocks.
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
    earlier: tuple[EncodedImages, ...] = ()

    def __len__(self) -> int:
        return self.embeddings.shape[0]

    def split(self) -> list[EncodedImages]:
        """Each image by itself, B = 1; they share the tensors' memory."""
        tensors = [one.name for one in fields(self) if isinstance(getattr(self, one.name), Tensor)]
        earlier = [one.split() for one in self.earlier]
        return [
            replace(
                self,
                earlier=tuple(images[index] for images in earlier),
                **{name: getattr(self, name)[index, None] for name in tensors},
            )
            for index in range(len(self))
        ]

    @torch.no_grad()
    def attention(self, index: int, rows: slice = slice(None)) -> Tensor:
        """The last block's attention in image ``index``: ``[heads, r, N]`` after softmax, of the
        queries ``rows``. Computed on request, as fused attention does not return it."""
        return self.head.block.attention(self.block_input[index, None], rows)[0]


class VisionBackbone(ABC):
    """A frozen ViT, pooled at [CLS], over its patches or by attention, and its embedding space.

    Attributes:
        name: shown in messages and reports.
        dim: width d of the embedding space.
        width: width D of the tokens.
        patch_size, default_size: (height, width) in pixels of a patch and of the model's input.
        mean, std: input normalisation, RGB.
        pooling: which tokens are pooled.
        inversion_defaults: MaskInversion options (steps, lr, alpha, weight_decay, size, score,
            relevance) that suit this model; the defaults of ``MaskInversion``.
        trunk_options: how the trunk is computed, see ``ClipViT.set_trunk``.
    """

    name: str
    dim: int
    width: int
    patch_size: tuple[int, int]
    default_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pooling: Pooling

    def __init__(self, name: str, inversion_defaults: Mapping[str, Any] | None = None) -> None:
        self.name = name
        self.inversion_defaults = dict(inversion_defaults or {})
        self.trunk_options = TrunkOptions()
        self._derived: dict[str, tuple[Any, Any]] = {}

    @property
    @abstractmethod
    def tower(self) -> nn.Module:
        """The image tower, which is never changed."""

    def set_trunk(self, **options: Any) -> VisionBackbone:
        """See ``ClipViT.set_trunk``; InputError: other trunks are their library's own."""
        for name in TrunkOptions.read(options, "the trunk").chosen:
            raise InputError(f"{name}: {self.name} has a trunk of its own library; leave it out")
        return self

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """The image tower's device."""

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """The image tower's dtype."""

    @abstractmethod
    def blocks(self) -> list[BlockWeights]:
        """The transformer blocks, with the model's current tensors."""

    @abstractmethod
    def head(self) -> Head:
        """The last block and what follows it, with the model's current tensors."""

    @abstractmethod
    def trunk(self, pixels: Tensor, *, without: int = 1) -> tuple[Tensor, tuple[int, int]]:
        """Tokens before the last blocks. Call it under ``torch.no_grad``.

        Args:
            pixels: normalised ``[B, 3, H, W]``.
            without: number of last blocks to leave out, an attention pool among them.

        Returns:
            Tokens ``[B, prefix + gh * gw, D]``, patches last, and the patch grid (gh, gw).

        Raises:
            InputError: as ``encode``.
        """

    def preprocess(
        self,
        image: Image.Image,
        size: int | tuple[int, int] | None = None,
        resize: Resize = "squash",
    ) -> Tensor:
        """Bring a whole image to ``size`` (no crop, bicubic) and normalise it.

        Args:
            image: any PIL mode that `regionlm.inputs.images.as_image` makes RGB.
            size: input pixels, S for S x S or (H, W); multiples of the patch. Default: the model's.
            resize: whether to squash or pad it, or to keep its shape
                (``regionlm.inputs.placement``).

        Returns:
            float32 ``[3, H, W]`` on the CPU; padding is 0, the mean colour.

        Raises:
            InputError: the model can't take the size, or the image can't be converted to RGB.
        """
        size = resolve_size(self.default_size if size is None else size, self.patch_size)
        image = as_image(image)
        placed = place(image.size, size, self.patch_size, resize)
        height, width = placed.extent
        resized = image.resize((width, height), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(resized, dtype=np.float32)).permute(2, 0, 1) / 255
        # On the CPU like the pixels, whatever the default device is.
        mean, std = (torch.tensor(values, device="cpu") for values in (self.mean, self.std))
        pixels = (pixels - mean[:, None, None]) / std[:, None, None]
        if placed.fills:
            return pixels
        (top, bottom), (left, right) = placed.spans
        padded = pixels.new_zeros(3, *placed.size)
        padded[:, top:bottom, left:right] = pixels
        return padded

    def encode(self, pixels: Tensor, *, layers: int = 1) -> EncodedImages:
        """Run the model once for ``pixels [B, 3, H, W]`` (normalised); see ``EncodedImages``.

        ``layers``: number of last blocks to explain; all of them if the model has fewer.

        Raises:
            InputError: wrong shape, a size that is no multiple of the patch, or non-finite pixels.
        """
        earlier = []
        with torch.inference_mode(False), torch.no_grad(), self._exact():
            head = self.head()
            blocks = self.blocks()[-layers:] if layers > 1 else [head.block]
            x, grid = self.trunk(pixels, without=len(blocks))
            if self.pooling == "attention":  # the pool reads each block's output
                for block in blocks[1:]:
                    earlier.append(self._encode_block(x, grid, head))
                    x = block.at(grid)(x)
            else:
                for block in blocks[:-1]:
                    seen = self._encode_block(x, grid, replace(head, block=block))
                    earlier.append(seen)
                    x = block.after_mlp(seen.residual)
            return replace(self._encode_block(x, grid, head), earlier=tuple(earlier))

    def encode_tokens(
        self, x: Tensor, grid: tuple[int, int], head: Head | None = None
    ) -> EncodedImages:
        """As `encode`, but starting from the trunk's tokens ``[B, prefix + gh * gw, D]``.

        ``head``: what follows them, if not the model's own.
        """
        with torch.inference_mode(False), torch.no_grad(), self._exact():
            return self._encode_block(x, grid, head or self.head())

    def embed_images(self, pixels: Tensor) -> Tensor:
        """Image embeddings ``[B, d]``, unnormalised, of ``pixels [B, 3, H, W]``; no gradient.

        Equals ``model.encode_image`` at the model's own input size. Raises as ``encode``.
        """
        with torch.inference_mode(False), torch.no_grad(), self._exact():
            x, grid = self.trunk(pixels)
            return self.head().at(grid).embed(x)

    def check_finite(self) -> None:
        """Raise ModelError, naming the parameter, if the image tower holds NaN or Inf."""
        for name, parameter in self.tower.named_parameters():
            if not torch.isfinite(parameter.detach()).all():
                raise ModelError(
                    f"{self.name}: visual.{name} holds NaN or Inf; the weights are damaged,"
                    " load them again"
                )

    def derived(self, key: str, sources: Sequence[Tensor], make: Callable[[], _T]) -> _T:
        """Cache under ``key`` what ``make()`` computes from the model's tensors ``sources``.

        It is computed again when a source was replaced or any of its numbers has changed, also if
        changed through ``.data``, which PyTorch's version counter does not notice.
        """
        with torch.inference_mode(False), torch.no_grad():
            state = [
                (s.data_ptr(), tuple(s.shape), s.device, s.dtype, checksum(s)) for s in sources
            ]
            if key not in self._derived or self._derived[key][0] != state:
                if len(self._derived) >= _MOST_DERIVED:
                    self._derived.clear()
                self._derived[key] = (state, make())
            return self._derived[key][1]

    def _encode_block(self, x: Tensor, grid: tuple[int, int], head: Head) -> EncodedImages:
        head = head.at(grid)
        found = [self._encode_one(one, head) for one in x.split(1)]
        embeddings, residual, values, pre_activation, score_mean = (
            parts[0] if len(parts) == 1 else torch.cat(parts) for parts in zip(*found, strict=True)
        )
        return EncodedImages(
            embeddings, x, residual, values, pre_activation, score_mean,
            grid, self.patch_size, head,
        )  # fmt: skip

    def _encode_one(self, x: Tensor, head: Head) -> tuple[Tensor, ...]:
        """What ``EncodedImages`` holds of one image, but for the input ``x [1, N, D]``.

        Products of few rows have other last bits when there are other rows beside them.
        """
        residual, values = head.block.attend(x)
        pre_activation = head.block.mlp_input(residual)
        # The MLP's last layer is affine, so the mean of its outputs needs one row, not N.
        hidden = head.block.hidden(pre_activation)
        tokens = head.score_tokens
        score_mean = residual[:, tokens].mean(1) + head.block.mlp_output(hidden[:, tokens].mean(1))
        pooled = score_mean
        if head.pooling == "cls":
            pooled = residual[:, 0] + head.block.mlp_output(hidden[:, 0])
        return head.readout(pooled), residual, values, pre_activation, score_mean

    def _exact(self) -> torch.autocast:
        """Disable a surrounding autocast, so that the model's own dtype is used."""
        return torch.autocast(self.device.type, enabled=False)

    def _check_pixels(self, pixels: Tensor) -> tuple[int, int]:
        if pixels.ndim != 4 or pixels.shape[1] != 3 or not pixels.is_floating_point():
            raise InputError(
                f"pixels: expected normalised floats [B, 3, H, W], found {pixels.dtype}"
                f" {list(pixels.shape)}"
            )
        if not torch.isfinite(pixels).all():
            raise InputError("pixels: expected finite numbers, found NaN or Inf in the image")
        return grid_of((pixels.shape[2], pixels.shape[3]), self.patch_size)
