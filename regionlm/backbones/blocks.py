"""One transformer block of an open_clip ViT, read as plain weights and run as plain functions.

Reading the weights instead of calling the modules keeps us independent of how open_clip lays tokens
out, of which attention class it uses, and of any hook somebody put on the caller's model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regionlm.errors import ModelError


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
        """Normalise ``x [..., D]``; statistics in the wider of the two dtypes, result as ``x``."""
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


def read_block(block: nn.Module, where: str = "block") -> BlockWeights:
    """Read one open_clip ``ResidualAttentionBlock``.

    Raises:
        ModelError: the block has parts we don't compute (q/k norms, scaled heads, extra norms ...).
    """
    attention: Any = getattr(block, "attn", None)
    mlp: Any = getattr(block, "mlp", None)
    names = ("in_proj_weight", "out_proj", "num_heads")
    if mlp is None or any(getattr(attention, name, None) is None for name in names):
        raise ModelError(
            f"{where}: expected open_clip's ResidualAttentionBlock (attn.in_proj_weight, mlp.c_fc),"
            f" found {type(block).__name__}; only plain ViTs can be read"
        )
    _refuse_extras(block, where)
    return BlockWeights(
        norm_1=read_layer_norm(block.ln_1, f"{where}.ln_1"),
        qkv_weight=attention.in_proj_weight,
        qkv_bias=attention.in_proj_bias,
        out_weight=attention.out_proj.weight,
        out_bias=attention.out_proj.bias,
        heads=attention.num_heads,
        scale_attention=_layer_scale(block, "ls_1", where),
        norm_2=read_layer_norm(block.ln_2, f"{where}.ln_2"),
        fc_weight=mlp.c_fc.weight,
        fc_bias=mlp.c_fc.bias,
        activation=read_activation(mlp.gelu, f"{where}.mlp.gelu"),
        proj_weight=mlp.c_proj.weight,
        proj_bias=mlp.c_proj.bias,
        scale_mlp=_layer_scale(block, "ls_2", where),
    )


def read_activation(module: nn.Module, where: str) -> Activation:
    """GELU (either form) or open_clip's QuickGELU; ModelError for any other."""
    if isinstance(module, nn.GELU):
        return Activation("gelu_tanh" if module.approximate == "tanh" else "gelu")
    if type(module).__name__ == "QuickGELU":
        return Activation("quick_gelu")
    raise ModelError(f"{where}: expected GELU or QuickGELU, found {type(module).__name__}")


def _layer_scale(block: nn.Module, name: str, where: str) -> Tensor | None:
    module = getattr(block, name, None)
    if module is None or isinstance(module, nn.Identity):
        return None
    gamma = getattr(module, "gamma", None)
    if gamma is None:
        raise ModelError(f"{where}.{name}: expected LayerScale, found {type(module).__name__}")
    return gamma


def _refuse_extras(block: nn.Module, where: str) -> None:
    """Name the first optional part that is switched on and that our formulas don't have."""
    parts = [(block.attn, n) for n in ("ln_q", "ln_k", "ln_inner", "logit_scale", "head_scale")]
    parts += [(block.attn, n) for n in ("bias_k", "bias_v")]
    parts += [(block, "ln_attn"), (block, "ln_1_kv"), (block.mlp, "ln")]
    for owner, name in parts:
        part = getattr(owner, name, None)
        if part is not None and not isinstance(part, nn.Identity):
            raise ModelError(
                f"{where}: has {name}, a part of open_clip's custom blocks that isn't supported;"
                " use a model with plain blocks"
            )
    if getattr(block.attn, "_qkv_same_embed_dim", True) is False:
        raise ModelError(f"{where}: expected self-attention with one packed q, k, v projection")
