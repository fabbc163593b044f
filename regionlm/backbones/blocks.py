"""A transformer block of a ViT as plain weights and functions.

Reading weights instead of calling modules makes us independent of a library's layout of tokens, of
its attention class, and of hooks on the caller's model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regionlm.errors import ModelError

_KINDS = ("gelu", "gelu_tanh", "quick_gelu")
_TOLERANCE = 1e-6  # the two GELUs differ by 5e-4, and QuickGELU from both by 2e-2


@dataclass(frozen=True)
class Activation:
    """An elementwise MLP activation and its derivative. ``kind``: gelu, gelu_tanh, quick_gelu."""

    kind: str

    def __call__(self, x: Tensor) -> Tensor:
        """Value at ``x``, any shape."""
        if self.kind == "quick_gelu":
            return x * torch.sigmoid(1.702 * x)
        return F.gelu(x, approximate="tanh" if self.kind == "gelu_tanh" else "none")

    def derivative(self, x: Tensor) -> Tensor:
        """Derivative at ``x``, any shape."""
        if self.kind == "quick_gelu":
            gate = torch.sigmoid(1.702 * x)
            return gate * (1 + 1.702 * x * (1 - gate))
        if self.kind == "gelu":
            density = torch.exp(-0.5 * x * x).mul_(x).mul_(1 / math.sqrt(2 * math.pi))
            return density.add_(torch.erf(x * math.sqrt(0.5)).add_(1), alpha=0.5)
        scale = math.sqrt(2 / math.pi)
        bent = torch.tanh(scale * (x + 0.044715 * x**3))
        slope = scale * (1 + 3 * 0.044715 * x * x)
        return 0.5 * (1 + bent) + 0.5 * x * (1 - bent * bent) * slope


@dataclass(frozen=True)
class LayerNormWeights:
    """Affine layer norm over the last axis."""

    weight: Tensor
    bias: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        """Normalise ``x [..., D]`` in the wider of the two dtypes; the result has that of ``x``."""
        wide = torch.promote_types(x.dtype, self.weight.dtype)
        y = F.layer_norm(
            x.to(wide), self.weight.shape, self.weight.to(wide), self.bias.to(wide), self.eps
        )
        return y.to(x.dtype)

    def to(self, dtype: torch.dtype) -> LayerNormWeights:
        """The same norm with weights of another dtype."""
        return LayerNormWeights(self.weight.to(dtype), self.bias.to(dtype), self.eps)


@dataclass(frozen=True)
class BlockWeights:
    """Weights of one pre-norm block; tensors alias the caller's model. D: width, F: MLP width.

    ``scale_attention`` and ``scale_mlp`` are LayerScale factors ``[D]`` or None.
    """

    norm_1: LayerNormWeights
    qkv_weight: Tensor  # [3D, D], rows q, k, v
    qkv_bias: Tensor | None
    out_weight: Tensor  # [D, D]
    out_bias: Tensor | None
    heads: int
    scale_attention: Tensor | None
    norm_2: LayerNormWeights
    fc_weight: Tensor  # [F, D]
    fc_bias: Tensor
    activation: Activation
    proj_weight: Tensor  # [D, F]
    proj_bias: Tensor
    scale_mlp: Tensor | None

    def qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys, values ``[B, heads, N, D / heads]`` of the block's input ``[B, N, D]``."""
        batch, tokens, width = x.shape
        packed = F.linear(self.norm_1(x), self.qkv_weight, self.qkv_bias)
        q, k, v = packed.view(batch, tokens, 3, self.heads, width // self.heads).permute(
            2, 0, 3, 1, 4
        )
        return q, k, v

    def attention(self, x: Tensor, rows: slice = slice(None)) -> Tensor:
        """Attention ``[B, heads, r, N]`` after softmax, float32 or wider, of the queries ``rows``
        of the block's input ``[B, N, D]``."""
        q, k, _ = self.qkv(x)
        wide = torch.promote_types(q.dtype, torch.float32)
        logits = q[:, :, rows].to(wide) @ k.to(wide).transpose(-1, -2) * q.shape[-1] ** -0.5
        return logits.softmax(-1)

    def attention_output(self, mixed: Tensor) -> Tensor:
        """Mixed values ``[B, heads, N, dh]`` to attention's term of the stream ``[B, N, D]``."""
        out = F.linear(mixed.transpose(1, 2).flatten(2), self.out_weight, self.out_bias)
        return out if self.scale_attention is None else out * self.scale_attention

    def attend(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Residual stream after attention ``[B, N, D]`` and the values ``[B, heads, N, dh]``."""
        q, k, v = self.qkv(x)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return x + self.attention_output(mixed), v

    def mlp_input(self, x1: Tensor) -> Tensor:
        """Pre-activation ``[..., F]`` of the residual stream after attention ``[..., D]``."""
        return F.linear(self.norm_2(x1), self.fc_weight, self.fc_bias)

    def mlp_output(self, activated: Tensor) -> Tensor:
        """Activated ``[..., F]`` to the MLP's term of the stream ``[..., D]``; affine."""
        out = F.linear(activated, self.proj_weight, self.proj_bias)
        return out if self.scale_mlp is None else out * self.scale_mlp

    def after_mlp(self, x1: Tensor) -> Tensor:
        """The block's output, of the residual stream after attention ``[..., D]``."""
        return x1 + self.mlp_output(self.activation(self.mlp_input(x1)))

    def __call__(self, x: Tensor) -> Tensor:
        """The whole block, ``[B, N, D] -> [B, N, D]``."""
        x1, _ = self.attend(x)
        return self.after_mlp(x1)


def read_layer_norm(module: nn.Module, where: str) -> LayerNormWeights:
    """Weights of an affine ``nn.LayerNorm`` (or subclass); ModelError for any other norm."""
    if not isinstance(module, nn.LayerNorm) or module.weight is None or module.bias is None:
        raise ModelError(
            f"{where}: expected an affine LayerNorm, found {type(module).__name__};"
            " only open_clip's plain ViTs can be read"
        )
    return LayerNormWeights(module.weight, module.bias, module.eps)


def find_activation(module: nn.Module, where: str) -> Activation:
    """Which activation a module computes, found by trying it, because names are not reliable.

    Raises:
        ModelError: it computes neither form of GELU nor QuickGELU.
    """
    inputs, wanted = _trials()
    try:
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            found = module.forward(inputs.clone())  # not the module, which may have hooks
            misses = (found - wanted).abs().amax(1).tolist()
    except Exception:  # raised by modules that aren't elementwise or not on the CPU
        misses = []
    for kind, miss in zip(_KINDS, misses, strict=False):
        if miss < _TOLERANCE:
            return Activation(kind)
    raise ModelError(f"{where}: expected GELU or QuickGELU, found {type(module).__name__}")


@lru_cache
def _trials() -> tuple[Tensor, Tensor]:
    """Inputs ``[n]`` to try an activation on, and the outputs ``[kinds, n]`` of the known ones."""
    with torch.inference_mode(False), torch.no_grad():
        inputs = torch.linspace(-6, 6, 49, dtype=torch.float64, device="cpu")
        return inputs, torch.stack([Activation(kind)(inputs) for kind in _KINDS])
