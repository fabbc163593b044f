"""All our knowledge of the blocks and poolers of open_clip's ViTs; no other module has any.

tests/regionlm/backbones/test_open_clip_insides checks it against open_clip itself.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regionlm.backbones.attention_pool import AttentionPool
from regionlm.backbones.blocks import (
    Activation,
    BlockWeights,
    LayerNormWeights,
    find_activation,
    read_layer_norm,
)
from regionlm.errors import ModelError


def read_block(block: nn.Module, where: str = "block") -> BlockWeights:
    """Read one open_clip ``ResidualAttentionBlock``.

    Raises:
        ModelError: the block has parts we don't compute (q/k norms, scaled heads, extra norms ...).
    """
    attention: Any = getattr(block, "attn", None)
    mlp: Any = getattr(block, "mlp", None)
    # Attention whose q, k and v differ in width has no packed in_proj_weight.
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
        activation=find_activation(mlp.gelu, f"{where}.mlp.gelu"),
        proj_weight=mlp.c_proj.weight,
        proj_bias=mlp.c_proj.bias,
        scale_mlp=_layer_scale(block, "ls_2", where),
    )


def _layer_scale(block: nn.Module, name: str, where: str) -> Tensor | None:
    module = getattr(block, name, None)
    if module is None or isinstance(module, nn.Identity):
        return None
    gamma = getattr(module, "gamma", None)
    if gamma is None:
        raise ModelError(f"{where}.{name}: expected LayerScale, found {type(module).__name__}")
    return gamma


def _refuse_extras(block: Any, where: str) -> None:
    """Raise ModelError, naming the part, if the block has optional parts we don't compute."""
    names = ("ln_q", "ln_k", "ln_inner", "logit_scale", "head_scale", "bias_k", "bias_v")
    parts = [(block.attn, name) for name in (*names, "add_zero_attn")]
    parts += [(block, "ln_attn"), (block, "ln_1_kv"), (block.mlp, "ln")]
    for owner, name in parts:
        part = getattr(owner, name, None)
        if part is not None and part is not False and not isinstance(part, nn.Identity):
            raise ModelError(
                f"{where}: has {name}, a part of open_clip's custom blocks that isn't supported"
            )


@torch.inference_mode(False)
@torch.no_grad()
def read_pooler(pooler: nn.Module, where: str = "pooler") -> AttentionPool:
    """Read one open_clip ``AttentionalPooler``; only its first query's token is pooled.

    Raises:
        ModelError: its attention has parts we don't compute.
    """
    parts: Any = pooler
    attention: Any = parts.attn
    for name in ("bias_k", "bias_v", "add_zero_attn"):
        if getattr(attention, name, None) not in (None, False):
            raise ModelError(f"{where}: its attention has {name}, which isn't supported")
    weights = [getattr(attention, f"{name}_proj_weight", None) for name in "qkv"]
    if attention.in_proj_weight is not None:  # all of one width
        weights = list(attention.in_proj_weight.chunk(3))
    bias = attention.in_proj_bias
    biases = [None] * 3 if bias is None else list(bias.chunk(3))
    query = read_layer_norm(parts.ln_q, f"{where}.ln_q")(parts.query[:1])
    query = F.linear(query, weights[0], biases[0]).view(attention.num_heads, 1, -1)
    out = attention.out_proj.weight
    return AttentionPool(
        query=query,
        norm_1=read_layer_norm(parts.ln_k, f"{where}.ln_k"),
        qkv_weight=weights[1:],
        qkv_bias=biases[1:],
        out_weight=out,
        out_bias=attention.out_proj.bias,
        heads=attention.num_heads,
        scale_attention=None,
        norm_2=LayerNormWeights(torch.ones_like(out[0]), None, 1e-5),
        fc_weight=out.new_empty(0, len(out)),
        fc_bias=None,
        activation=Activation("gelu"),
        proj_weight=out.new_empty(len(out), 0),
        proj_bias=None,
        scale_mlp=None,
    )
