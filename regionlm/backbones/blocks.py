"""A transformer block of a ViT as plain weights and functions.

Reading weights instead of calling modules makes us independent of a library's layout of tokens, of
its attention class, and of hooks on the caller's model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regionlm.errors import ModelError

_KINDS = ("gelu", "gelu_tanh", "quick_gelu", "silu")
_GATES = {"quick_gelu": 1.702, "silu": 1.0}  # x * sigmoid(factor * x)
_TOLERANCE = 1e-6  # the two GELUs differ by 5e-4, and QuickGELU from both by 2e-2


@dataclass(frozen=True)
class Activation:
    """An elementwise MLP activation and its derivative.

    ``kind``: gelu, gelu_tanh, quick_gelu, silu.
    """

    kind: str

    def __call__(self, x: Tensor) -> Tensor:
        """Value at ``x``, any shape."""
        if self.kind in _GATES:
            return x * torch.sigmoid(_GATES[self.kind] * x)
        return F.gelu(x, approximate="tanh" if self.kind == "gelu_tanh" else "none")

    def derivative(self, x: Tensor) -> Tensor:
        """Derivative at ``x``, any shape."""
        if self.kind in _GATES:
            factor = _GATES[self.kind]
            gate = torch.sigmoid(factor * x)
            return gate * (1 + factor * x * (1 - gate))
        if self.kind == "gelu":
            density = torch.exp(-0.5 * x * x).mul_(x).mul_(1 / math.sqrt(2 * math.pi))
            return density.add_(torch.erf(x * math.sqrt(0.5)).add_(1), alpha=0.5)
        scale = math.sqrt(2 / math.pi)
        bent = torch.tanh(scale * (x + 0.044715 * x**3))
        slope = scale * (1 + 3 * 0.044715 * x * x)
        return 0.5 * (1 + bent) + 0.5 * x * (1 - bent * bent) * slope


@dataclass(frozen=True)
class LayerNormWeights:
    """Affine layer norm over the last axis; ``bias`` is None in models without."""

    weight: Tensor
    bias: Tensor | None
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        """Normalise ``x [..., D]`` in the wider of the two dtypes; the result has that of ``x``."""
        wide = torch.promote_types(x.dtype, self.weight.dtype)
        own = self.to(wide)
        return F.layer_norm(x.to(wide), own.weight.shape, own.weight, own.bias, own.eps).to(x.dtype)

    def to(self, dtype: torch.dtype) -> LayerNormWeights:
        """The same norm with weights of another dtype."""
        bias = None if self.bias is None else self.bias.to(dtype)
        return LayerNormWeights(self.weight.to(dtype), bias, self.eps)


@dataclass(frozen=True)
class Rotary:
    """Rotary positions (Su et al. 2021, arXiv 2104.09864), which turn pairs of numbers of queries
    and keys. Tokens before the patches have none.

    ``make``: patch grid -> sines and cosines, each ``[gh * gw, dh]`` or ``[heads, gh * gw, dh]``;
    ``halves``: the pairs are (x, x + dh / 2), not neighbours; ``table``: of the ``grid`` at hand.
    """

    make: Callable[[tuple[int, int]], tuple[Tensor, Tensor]]
    halves: bool
    grid: tuple[int, int] | None = None
    table: tuple[Tensor, Tensor] | None = None

    def at(self, grid: tuple[int, int]) -> Rotary:
        """These positions on a patch grid; themselves if they are of that grid."""
        return self if grid == self.grid else replace(self, grid=grid, table=self.make(grid))

    def __call__(self, x: Tensor) -> Tensor:
        """Turn queries or keys ``[B, heads, N, dh]``."""
        if self.table is None:
            raise RuntimeError("rotary positions need a patch grid: use BlockWeights.at")
        sines, cosines = self.table
        first, patches = x.tensor_split([x.shape[2] - sines.shape[-2]], 2)
        if self.halves:
            left, right = patches.chunk(2, -1)
            across = torch.cat([-right, left], -1)
        else:
            across = torch.stack([-patches[..., 1::2], patches[..., ::2]], -1).flatten(-2)
        turned = patches * cosines + across * sines
        return torch.cat([first, turned.to(x.dtype)], 2)


@dataclass(frozen=True)
class BlockWeights:
    """Weights of one pre-norm block; tensors alias the caller's model. D: width, F: MLP width, A:
    ``heads * dh``, which is D in most models.

    ``scale_attention`` and ``scale_mlp`` are LayerScale factors ``[D]`` or None. The MLP of a
    ``gated`` block (SwiGLU) is ``proj(activation(gate) * up)``. ``norm_hidden [F]`` and
    ``norm_mixed [A]`` come before the MLP's and attention's last layer (EVA-02's sub-LN);
    ``norm_query`` and ``norm_key [dh]`` before the products of attention; ``norm_again [D]``
    between ``norm_2`` and the MLP (ViTamin).
    """

    norm_1: LayerNormWeights
    qkv_weight: Tensor | Sequence[Tensor]  # [3A, D], rows q, k, v; or each by itself
    qkv_bias: Tensor | Sequence[Tensor | None] | None  # of that form, or None
    out_weight: Tensor  # [D, A]
    out_bias: Tensor | None
    heads: int
    scale_attention: Tensor | None
    norm_2: LayerNormWeights
    fc_weight: Tensor | Sequence[Tensor]  # [F, D]; if gated [2F, D], rows gate, up; or each
    fc_bias: Tensor | Sequence[Tensor | None] | None  # of that form, or None
    activation: Activation
    proj_weight: Tensor  # [D, F]
    proj_bias: Tensor | None
    scale_mlp: Tensor | None
    gated: bool = False
    norm_hidden: LayerNormWeights | None = None
    norm_mixed: LayerNormWeights | None = None
    norm_query: LayerNormWeights | None = None
    norm_key: LayerNormWeights | None = None
    norm_again: LayerNormWeights | None = None
    rotary: Rotary | None = None

    def at(self, grid: tuple[int, int]) -> BlockWeights:
        """The block for images of a patch grid: with rotary positions of that grid."""
        if self.rotary is None:
            return self
        return replace(self, rotary=self.rotary.at(grid))

    def qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys, values ``[B, heads, N, dh]`` of the block's input ``[B, N, D]``."""
        q, k, v = (
            part.view(*part.shape[:2], self.heads, -1).transpose(1, 2)
            for part in self._projections(self.norm_1(x))
        )
        q = q if self.norm_query is None else self.norm_query(q)
        k = k if self.norm_key is None else self.norm_key(k)
        if self.rotary is not None:
            q, k = self.rotary(q), self.rotary(k)
        return q, k, v

    def _projections(self, x: Tensor) -> Sequence[Tensor]:
        """Queries, keys and values ``[B, N, A]`` of the normalised input."""
        found = _products(x, self.qkv_weight, self.qkv_bias)
        return found if len(found) > 1 else found[0].chunk(3, -1)

    def attention(self, x: Tensor, rows: slice = slice(None)) -> Tensor:
        """Attention ``[B, heads, r, N]`` after softmax, float32 or wider, of the queries ``rows``
        of the block's input ``[B, N, D]``."""
        q, k, _ = self.qkv(x)
        wide = torch.promote_types(q.dtype, torch.float32)
        logits = q[:, :, rows].to(wide) @ k.to(wide).transpose(-1, -2) * q.shape[-1] ** -0.5
        return logits.softmax(-1)

    def attention_output(self, mixed: Tensor) -> Tensor:
        """Mixed values ``[B, heads, N, dh]`` to attention's term of the stream ``[B, N, D]``."""
        mixed = mixed.transpose(1, 2).flatten(2)
        mixed = mixed if self.norm_mixed is None else self.norm_mixed(mixed)
        out = F.linear(mixed, self.out_weight, self.out_bias)
        return out if self.scale_attention is None else out * self.scale_attention

    def attend(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Residual stream after attention ``[B, N, D]`` and the values ``[B, heads, N, dh]``."""
        mixed, v = self.mix(x)
        return self.after_attention(x, mixed), v

    def after_attention(self, x: Tensor, mixed: Tensor) -> Tensor:
        """Residual stream ``[B, N, D]`` of the input and mixed values ``[B, heads, N, dh]``."""
        return x + self.attention_output(mixed)

    def mix(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mixed values and values, both ``[B, heads, N, dh]``, of the input ``[B, N, D]``."""
        q, k, v = self.qkv(x)
        return F.scaled_dot_product_attention(q, k, v), v

    def mlp_input(self, x1: Tensor) -> Tensor:
        """Pre-activation ``[..., F]`` of the residual stream after attention ``[..., D]``; a gated
        block's has 2F numbers, gate and up."""
        parts = self._first_products(x1)
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)

    def _first_products(self, x1: Tensor) -> list[Tensor]:
        normed = self.norm_2(x1)
        normed = normed if self.norm_again is None else self.norm_again(normed)
        return _products(normed, self.fc_weight, self.fc_bias)

    def first_layer(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of the MLP's first layer, in one."""
        (weights, biases) = zip(*_layers(self.fc_weight, self.fc_bias), strict=True)
        weight = weights[0] if len(weights) == 1 else torch.cat(weights)
        return weight, None if biases[0] is None else torch.cat(biases)

    def activated(self, pre_activation: Tensor) -> Tensor:
        """Pre-activation to ``[..., F]``, before ``norm_hidden``."""
        if not self.gated:
            return self.activation(pre_activation)
        gate, up = pre_activation.chunk(2, -1)
        return self.activation(gate) * up

    def _hidden_of(self, parts: list[Tensor]) -> Tensor:
        """As ``hidden``, of the first layer's products, which need not be in one for this."""
        if len(parts) == 1:
            return self.hidden(parts[0])
        found = self.activation(parts[0]) * parts[1]
        return found if self.norm_hidden is None else self.norm_hidden(found)

    def activated_slope(self, pre_activation: Tensor) -> Tensor:
        """Derivative of ``activated`` by each number of the pre-activation, of its shape."""
        if not self.gated:
            return self.activation.derivative(pre_activation)
        gate, up = pre_activation.chunk(2, -1)
        return torch.cat([self.activation.derivative(gate) * up, self.activation(gate)], -1)

    def hidden(self, pre_activation: Tensor) -> Tensor:
        """Pre-activation to the input ``[..., F]`` of the MLP's last layer."""
        found = self.activated(pre_activation)
        return found if self.norm_hidden is None else self.norm_hidden(found)

    def mlp_output(self, hidden: Tensor) -> Tensor:
        """The MLP's hidden ``[..., F]`` to its term of the stream ``[..., D]``; affine."""
        out = F.linear(hidden, self.proj_weight, self.proj_bias)
        return out if self.scale_mlp is None else out * self.scale_mlp

    def after_mlp(self, x1: Tensor) -> Tensor:
        """The block's output, of the residual stream after attention ``[..., D]``."""
        return x1 + self.mlp_output(self._hidden_of(self._first_products(x1)))

    def __call__(self, x: Tensor) -> Tensor:
        """The whole block, ``[B, N, D] -> [B, N, D]``."""
        x1, _ = self.attend(x)
        return self.after_mlp(x1)


def _layers(
    weight: Tensor | Sequence[Tensor], bias: Tensor | Sequence[Tensor | None] | None
) -> list[tuple[Tensor, Tensor | None]]:
    """Weight and bias of layers side by side; a packed one is the only one."""
    weights: Sequence[Any] = [weight] if isinstance(weight, Tensor) else weight
    biases: Sequence[Any] = [bias] if isinstance(bias, Tensor) else bias or [None] * len(weights)
    return list(zip(weights, biases, strict=True))


def _products(
    x: Tensor, weight: Tensor | Sequence[Tensor], bias: Tensor | Sequence[Tensor | None] | None
) -> list[Tensor]:
    return [F.linear(x, one, own) for one, own in _layers(weight, bias)]


def read_layer_norm(module: nn.Module, where: str) -> LayerNormWeights:
    """Weights of an affine ``nn.LayerNorm`` (or subclass); ModelError for any other norm."""
    if not isinstance(module, nn.LayerNorm) or module.weight is None:
        raise ModelError(
            f"{where}: expected an affine LayerNorm, found {type(module).__name__},"
            " a norm that can't be read"
        )
    return LayerNormWeights(module.weight, module.bias, module.eps)


def find_activation(module: nn.Module, where: str) -> Activation:
    """Which activation a module computes, found by trying it, because names are not reliable.

    Raises:
        ModelError: it computes neither form of GELU, nor QuickGELU, nor SiLU.
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
    raise ModelError(f"{where}: expected GELU, QuickGELU or SiLU, found {type(module).__name__}")


@lru_cache
def _trials() -> tuple[Tensor, Tensor]:
    """Inputs ``[n]`` to try an activation on, and the outputs ``[kinds, n]`` of the known ones."""
    with torch.inference_mode(False), torch.no_grad():
        inputs = torch.linspace(-6, 6, 49, dtype=torch.float64, device="cpu")
        return inputs, torch.stack([Activation(kind)(inputs) for kind in _KINDS])
