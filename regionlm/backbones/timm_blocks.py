"""All our knowledge of the blocks of timm's ViTs; no other module has any.

tests/regionlm/backbones/test_timm_insides checks it against timm itself.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from regionlm.backbones.blocks import BlockWeights, find_activation, read_layer_norm
from regionlm.errors import ModelError

# Optional parts that change what a block computes.
_EXTRAS = (("attn", ("q_norm", "k_norm", "norm", "gate")), ("mlp", ("norm",)))


def read_timm_block(block: Any, where: str) -> BlockWeights:
    """Read one pre-norm block of a timm ``VisionTransformer``.

    Raises:
        ModelError: the block has parts we don't compute (the message names one).
    """
    from timm.layers import Attention, Mlp
    from timm.models.vision_transformer import Block

    for part, kind in ((block, Block), (block.attn, Attention), (block.mlp, Mlp)):
        if type(part) is not kind:
            raise ModelError(
                f"{where}: expected a plain block of a timm ViT, found {type(part).__name__};"
                " it isn't supported"
            )
    _refuse_extras(block, where)
    attention, mlp = block.attn, block.mlp
    return BlockWeights(
        norm_1=read_layer_norm(block.norm1, f"{where}.norm1"),
        qkv_weight=attention.qkv.weight,
        qkv_bias=attention.qkv.bias,
        out_weight=attention.proj.weight,
        out_bias=attention.proj.bias,
        heads=attention.num_heads,
        scale_attention=_layer_scale(block, "ls1", where),
        norm_2=read_layer_norm(block.norm2, f"{where}.norm2"),
        fc_weight=mlp.fc1.weight,
        fc_bias=mlp.fc1.bias,
        activation=find_activation(mlp.act, f"{where}.mlp.act"),
        proj_weight=mlp.fc2.weight,
        proj_bias=mlp.fc2.bias,
        scale_mlp=_layer_scale(block, "ls2", where),
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
    for owner, names in _EXTRAS:
        for name in names:
            part = getattr(getattr(block, owner), name, None)
            if part is not None and part is not False and not isinstance(part, nn.Identity):
                raise ModelError(
                    f"{where}: has {owner}.{name}, a part of timm's blocks that isn't supported;"
                    " use a model with plain blocks"
                )
