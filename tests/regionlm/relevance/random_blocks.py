"""Blocks of random weights, with any choice of the parts that `BlockWeights` knows."""

from dataclasses import fields, replace

import torch
from torch import Tensor

from regionlm.backbones.blocks import Activation, BlockWeights, LayerNormWeights, Rotary

WIDTH, HIDDEN, HEADS, HEAD_DIM = 12, 20, 3, 6  # heads that together are wider than the stream
PARTS = ("gated", "norm_hidden", "norm_mixed", "norm_query", "norm_again", "rotary", "scales",
         "biases", "split")  # fmt: skip


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def norm(size: int, biased: bool = True) -> LayerNormWeights:
    return LayerNormWeights(1 + 0.3 * normal(size), normal(size) if biased else None, 1e-3)


def random_block(parts: frozenset[str] = frozenset(), kind: str = "gelu") -> BlockWeights:
    """A block in float64 with ``parts``, some of ``PARTS``."""
    biases, both = "biases" in parts, HEADS * HEAD_DIM
    rows = HIDDEN * (1 + ("gated" in parts))
    block = BlockWeights(
        norm_1=norm(WIDTH, biases),
        qkv_weight=normal(3 * both, WIDTH),
        qkv_bias=normal(3 * both) if biases else None,
        out_weight=normal(WIDTH, both),
        out_bias=normal(WIDTH) if biases else None,
        heads=HEADS,
        scale_attention=normal(WIDTH) if "scales" in parts else None,
        norm_2=norm(WIDTH, biases),
        fc_weight=normal(rows, WIDTH),
        fc_bias=normal(rows) if biases else None,
        activation=Activation(kind),
        proj_weight=normal(WIDTH, HIDDEN),
        proj_bias=normal(WIDTH) if biases else None,
        scale_mlp=normal(WIDTH) if "scales" in parts else None,
        gated="gated" in parts,
        norm_hidden=norm(HIDDEN, biases) if "norm_hidden" in parts else None,
        norm_mixed=norm(both, biases) if "norm_mixed" in parts else None,
        norm_query=norm(HEAD_DIM) if "norm_query" in parts else None,
        norm_key=norm(HEAD_DIM) if "norm_query" in parts else None,
        norm_again=norm(WIDTH, biases) if "norm_again" in parts else None,
        rotary=Rotary(angles, halves=True) if "rotary" in parts else None,
    )
    return split(block) if "split" in parts else block


def split(block: BlockWeights) -> BlockWeights:
    """With queries, keys and values in layers of their own, and gate and up of a gated block."""
    layers = {"qkv": 3, "fc": 2} if block.gated else {"qkv": 3}
    changed = {}
    for name, count in layers.items():
        weight, bias = getattr(block, f"{name}_weight"), getattr(block, f"{name}_bias")
        changed[f"{name}_weight"] = list(weight.chunk(count))
        changed[f"{name}_bias"] = [None] * count if bias is None else list(bias.chunk(count))
    return replace(block, **changed)


def angles(grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Any sines and cosines that differ between grids."""
    number = torch.arange(grid[0] * grid[1], dtype=torch.float64)[:, None] / grid[1]
    turns = number * torch.arange(1, HEAD_DIM + 1, dtype=torch.float64)
    return turns.sin(), turns.cos()


def tensors_of(block: BlockWeights) -> dict[str, Tensor]:
    """All tensors of a block by name, those of its norms too."""
    found = {}
    for field in fields(block):
        value = getattr(block, field.name)
        if isinstance(value, Tensor):
            found[field.name] = value
        if isinstance(value, list):
            found |= {f"{field.name} {i}": one for i, one in enumerate(value) if one is not None}
        if isinstance(value, LayerNormWeights):
            found[f"{field.name}.weight"] = value.weight
            found |= {} if value.bias is None else {f"{field.name}.bias": value.bias}
    return found
