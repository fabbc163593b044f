"""All our knowledge of the blocks of timm's ViTs; no other module has any.

tests/regionlm/backbones/test_timm_blocks checks it against timm itself.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from regionlm.backbones.blocks import (
    BlockWeights,
    LayerNormWeights,
    Rotary,
    find_activation,
    read_layer_norm,
)
from regionlm.errors import ModelError

Angles = Callable[[tuple[int, int]], tuple[Tensor, Tensor]]


def read_timm_block(block: Any, where: str, rotary: Angles | None = None) -> BlockWeights:
    """Read one pre-norm block of timm's ``VisionTransformer`` or ``Eva``.

    Args:
        block: the module.
        where: names it in messages.
        rotary: sines and cosines of its rotary positions, if the model has any (`read_rotary`).

    Raises:
        ModelError: the block has parts we don't compute (the message names one).
    """
    _check_kind(block, ("Block", "EvaBlock"), where)
    attention, mlp = block.attn, block.mlp
    _check_kind(attention, ("Attention", "AttentionRope", "EvaAttention"), f"{where}.attn")
    _check_kind(mlp, ("Mlp", "GluMlp", "SwiGLU", "GeGluMlp"), f"{where}.mlp")
    _refuse_extras(attention, f"{where}.attn")
    qkv_weight, qkv_bias = _projections(attention)
    fc_weight, fc_bias = _first_layer(mlp)
    last = getattr(mlp, "fc2", None) or mlp.w2
    mlp_norm = _norm(mlp, "norm", f"{where}.mlp")
    is_first = type(mlp).__name__ == "GeGluMlp"  # where the MLP's norm is
    return BlockWeights(
        norm_1=read_layer_norm(block.norm1, f"{where}.norm1"),
        qkv_weight=qkv_weight,
        qkv_bias=qkv_bias,
        out_weight=attention.proj.weight,
        out_bias=attention.proj.bias,
        heads=attention.num_heads,
        scale_attention=_layer_scale(block, ("ls1", "gamma_1"), where),
        norm_2=read_layer_norm(block.norm2, f"{where}.norm2"),
        fc_weight=fc_weight,
        fc_bias=fc_bias,
        activation=find_activation(mlp.act, f"{where}.mlp.act"),
        proj_weight=last.weight,
        proj_bias=last.bias,
        scale_mlp=_layer_scale(block, ("ls2", "gamma_2"), where),
        gated=type(mlp).__name__ != "Mlp",
        norm_hidden=None if is_first else mlp_norm,
        norm_mixed=_norm(attention, "norm", f"{where}.attn"),
        norm_query=_norm(attention, "q_norm", f"{where}.attn"),
        norm_key=_norm(attention, "k_norm", f"{where}.attn"),
        norm_again=mlp_norm if is_first else None,
        rotary=None if rotary is None else Rotary(rotary, getattr(attention, "rotate_half", False)),
    )


def read_rotary(rope: nn.Module, number: int) -> Angles:
    """Sines and cosines of block ``number`` under a model's rotary positions, by patch grid.

    The module remembers the angles of one grid, so a copy of it is asked.
    """

    @lru_cache(maxsize=1)
    def table(grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        own: Any = deepcopy(rope).eval()
        if getattr(own, "feat_shape", None) is None:
            found = own.get_embed(shape=list(grid))
        else:
            own.update_feat_shape(list(grid))
            found = own.get_embed()
        found = found.detach()
        sines, cosines = (found if found.ndim == 2 else found[number]).chunk(2, -1)
        return sines, cosines

    return table


def _check_kind(module: Any, names: tuple[str, ...], where: str) -> None:
    """By name, as not every release of timm has all of them; a subclass may compute anything."""
    kind = type(module)
    if kind.__name__ not in names or not kind.__module__.startswith("timm."):
        raise ModelError(
            f"{where}: expected timm's {' or '.join(names)}, found {kind.__name__}; it isn't"
            " supported"
        )


def _projections(attention: Any) -> tuple[Any, Any]:
    """Weight and bias of queries, keys and values, packed or one by one, as the module has them."""
    if attention.qkv is None:
        parts = [attention.q_proj, attention.k_proj, attention.v_proj]
        return [part.weight for part in parts], [part.bias for part in parts]
    if getattr(attention, "q_bias", None) is None:
        return attention.qkv.weight, attention.qkv.bias
    return attention.qkv.weight, torch.cat([attention.q_bias, attention.k_bias, attention.v_bias])


def _first_layer(mlp: Any) -> tuple[Any, Any]:
    """Weight and bias of the MLP's first layer, or of a gated one's gate and what it lets through,
    as the module has them."""
    for names in (("fc1_g", "fc1_x"), ("w0", "w1")):
        parts = [getattr(mlp, name) for name in names if hasattr(mlp, name)]
        if parts:
            return [part.weight for part in parts], [part.bias for part in parts]
    weight, bias = mlp.fc1.weight, mlp.fc1.bias
    if not getattr(mlp, "gate_last", False):
        return weight, bias
    biases = (None, None) if bias is None else bias.chunk(2)
    return weight.chunk(2)[::-1], biases[::-1]


def _norm(module: nn.Module, name: str, where: str) -> LayerNormWeights | None:
    part = getattr(module, name, None)
    if part is None or isinstance(part, nn.Identity):
        return None
    return read_layer_norm(part, f"{where}.{name}")


def _layer_scale(block: nn.Module, names: tuple[str, str], where: str) -> Tensor | None:
    """``LayerScale``'s factors, a module's or (EVA) the block's own parameter."""
    module = getattr(block, names[0], getattr(block, names[1], None))
    if module is None or isinstance(module, nn.Identity):
        return None
    gamma = module if isinstance(module, Tensor) else getattr(module, "gamma", None)
    if gamma is None:
        raise ModelError(f"{where}.{names[0]}: expected LayerScale, found {type(module).__name__}")
    return gamma


def _refuse_extras(attention: Any, where: str) -> None:
    if getattr(attention, "gate", None) is not None:
        raise ModelError(f"{where}: has a gate on its output, which isn't supported")
    if getattr(attention, "num_kv_heads", attention.num_heads) != attention.num_heads:
        raise ModelError(f"{where}: has fewer heads of keys than of queries: not supported")
