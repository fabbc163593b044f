"""All our knowledge of timm's ViTs, as image towers of open_clip, but for their blocks.

tests/regionlm/backbones/test_timm_insides checks it against timm and open_clip themselves.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prefix_models.lm.calling import in_eval_mode
from regionlm.backbones.attention_pool import AttentionPool
from regionlm.backbones.blocks import (
    BlockWeights,
    LayerNormWeights,
    find_activation,
    read_layer_norm,
)
from regionlm.backbones.positions import Interpolation
from regionlm.backbones.timm_blocks import read_rotary, read_timm_block
from regionlm.backbones.vision import Head, Pooling
from regionlm.errors import ModelError

_PARTS = ("patch_embed", "pos_embed", "num_prefix_tokens", "blocks", "norm", "fc_norm", "head")
_POOLINGS: dict[str, Pooling] = {"token": "cls", "avg": "mean", "map": "attention"}


def is_timm_tower(visual: nn.Module | None) -> bool:
    """Whether this is open_clip's wrapper of a timm model."""
    return hasattr(visual, "trunk") and hasattr(visual, "head")


class TimmTower:
    """A `Tower`: the parts of open_clip's ``TimmModel`` around one of timm's ViTs.

    Args:
        visual: a model's ``visual``.
        name: the model's name, for messages.

    Raises:
        ModelError: not a ViT, or one with a part that is not supported (the message names it).
    """

    interpolation: Interpolation = "bicubic"

    def __init__(self, visual: nn.Module | None, name: str) -> None:
        tower: Any = visual
        self.module = tower
        self._trunk: Any = tower.trunk
        self._name = name
        lacks = [part for part in _PARTS if not hasattr(self._trunk, part)]
        if lacks:
            kind = type(self._trunk).__name__
            raise ModelError(f"{name}: expected a plain ViT of timm, found {kind} (no {lacks[0]})")
        self.prefix = int(self._trunk.num_prefix_tokens)
        self.pooling: Pooling = self._read_pooling()
        self._check_embedding()

    @property
    def _stem(self) -> Any:
        """The convolutions that embed patches, if it isn't one alone."""
        return getattr(self._trunk.patch_embed, "backbone", None)

    @property
    def patch_weight(self) -> Tensor:
        """The first weight of what embeds patches."""
        return next(self._trunk.patch_embed.parameters())

    @property
    def width(self) -> int:
        """Width D of the tokens."""
        return int(self._trunk.embed_dim)

    @property
    def patch_size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        patches = self._trunk.patch_embed
        if self._stem is None:
            return tuple(patches.proj.kernel_size)
        return tuple(patches.feat_ratio(as_scalar=False))

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels of the model's input, without pixels that no patch covers.

        Models with patches of 14 for images of 384 pixels drop the last 6.
        """
        (rows, columns), (height, width) = self.grid, self.patch_size
        return rows * height, columns * width

    @property
    def grid(self) -> tuple[int, int]:
        """Patches per column and row of such an image."""
        return tuple(self._trunk.patch_embed.grid_size)

    @property
    def dim(self) -> int:
        """Width d of the joint space."""
        projection = self._projection()
        return self.width if projection is None else len(projection.weight)

    @property
    def preprocess(self) -> dict[str, Any]:
        """The model's preprocessing (mean and std), if it has any."""
        return getattr(self.module, "preprocess_cfg", None) or {}

    def prefix_tokens(self) -> Tensor:
        """The class and register tokens, ``[prefix, D]``."""
        tokens = [getattr(self._trunk, name, None) for name in ("cls_token", "reg_token")]
        there = [token[0] for token in tokens if token is not None]
        return torch.cat(there) if there else self.patch_weight.new_empty(0, self.width)

    def embed_patches(self, pixels: Tensor) -> Tensor:
        """Patches ``[B, gh * gw, D]`` of pixels."""
        embed = self._trunk.patch_embed
        if self._stem is None:
            patches = F.conv2d(pixels, embed.proj.weight, embed.proj.bias, self.patch_size)
        else:
            with in_eval_mode(embed):  # batch norms
                patches = embed.proj(self._stem(pixels))
        return patches.flatten(2).transpose(1, 2)

    def positions(self) -> Tensor | None:
        """``[gh * gw, D]``, or with ``prefix`` more in front; None if the model has none."""
        found = self._trunk.pos_embed
        return None if found is None else found[0]

    def norm_before(self) -> LayerNormWeights | None:
        """The norm before the blocks; None if the model has none."""
        return self._norm("norm_pre")

    def blocks(self) -> list[BlockWeights]:
        """The transformer blocks."""
        return [self._block(number) for number in range(len(self._trunk.blocks))]

    def head(self) -> Head:
        """The last block and what follows it."""
        projection = self._projection()
        proj = None if projection is None else projection.weight.T
        bias = None if projection is None else projection.bias
        if self.pooling == "attention":
            pool = self._trunk.attn_pool
            block: BlockWeights = read_pool(pool, self._norm("norm"), f"{self._name}: attn_pool")
            return Head(block, self._norm("fc_norm"), proj, self.pooling, self.prefix, bias)
        block = self._block(len(self._trunk.blocks) - 1)
        norm = self._norm("norm") or self._norm("fc_norm")
        return Head(block, norm, proj, self.pooling, self.prefix, bias)

    def _block(self, number: int) -> BlockWeights:
        rope = getattr(self._trunk, "rope", None)
        rotary = None if rope is None else read_rotary(rope, number)
        block = self._trunk.blocks[number]
        return read_timm_block(block, f"{self._name}: block {number}", rotary)

    def _norm(self, part: str) -> LayerNormWeights | None:
        module = getattr(self._trunk, part, None)
        return None if module is None else _optional_norm(module, f"{self._name}: {part}")

    def _projection(self) -> Any:
        """The linear layer after the pool: of the trunk or of open_clip; None if there is none."""
        own = self._trunk.head
        added = [layer for layer in self.module.head if not isinstance(layer, nn.Dropout)]
        layers = [*([] if isinstance(own, nn.Identity) else [own]), *added]
        if not layers:
            return None
        if len(layers) > 1 or not isinstance(layers[0], nn.Linear):
            names = ", ".join(type(layer).__name__ for layer in layers)
            raise ModelError(
                f"{self._name}: expected a linear projection after the pool, found {names}"
            )
        return layers[0]

    def _read_pooling(self) -> Pooling:
        pool = getattr(self._trunk, "global_pool", None)
        has_prefix = getattr(self._trunk, "pool_include_prefix", None)  # timm's Eva doesn't say
        if pool == "map" and self.prefix and has_prefix is False:
            raise ModelError(
                f"{self._name}: expected attention pooling of all tokens, found one that leaves out"
                f" the first {self.prefix}"
            )
        if pool not in _POOLINGS or (pool == "avg" and has_prefix):
            raise ModelError(
                f"{self._name}: expected a ViT pooled at [CLS] or over its patches, found a timm"
                f" ViT with pooling {pool!r}"
            )
        if pool == "avg" and self._norm("norm") is not None:
            raise ModelError(
                f"{self._name}: expected the layer norm after the pool, found a timm ViT that"
                " averages normalised patches"
            )
        return _POOLINGS[pool]

    def _check_embedding(self) -> None:
        patches: Any = self._trunk.patch_embed
        one: Any = getattr(patches, "proj", None)
        is_one = isinstance(one, nn.Conv2d) and one.stride == one.kernel_size
        if self._stem is None and not is_one:
            raise ModelError(
                f"{self._name}: expected patches from a convolution, found {type(patches).__name__}"
            )
        if not isinstance(getattr(patches, "norm", None), nn.Identity | None):
            raise ModelError(f"{self._name}: has a norm of its patches, which isn't supported")
        rows, columns = self.grid
        positions = self.positions()
        if positions is not None and len(positions) - rows * columns not in (0, self.prefix):
            raise ModelError(f"{self._name}: expected a position for each patch of its grid")


@torch.inference_mode(False)
@torch.no_grad()
def read_pool(pool: Any, norm: LayerNormWeights | None, where: str) -> AttentionPool:
    """Read timm's ``AttentionPoolLatent``, as models have it. ``norm``: of its input, ``[D]``.

    Raises:
        ModelError: it has parts we don't compute, or pools more latents than one.
    """
    from timm.layers import AttentionPoolLatent, Mlp

    if type(pool) is not AttentionPoolLatent or norm is None:
        found = type(pool).__name__ + ("" if norm else " without a norm before it")
        raise ModelError(
            f"{where}: expected timm's AttentionPoolLatent after a norm, found {found}"
        )
    extras = {
        "positions of its own": pool.pos_embed is not None,
        "the mean of several latents": pool.pool != "token" and pool.latent_len > 1,
        f"{type(pool.mlp).__name__} for an MLP": type(pool.mlp) is not Mlp,
        "a norm inside its MLP": not isinstance(getattr(pool.mlp, "norm", None), nn.Identity),
    }
    for extra, there in extras.items():
        if there:
            raise ModelError(f"{where}: has {extra}, which isn't supported")
    query = pool.latent[:, :1]
    if not isinstance(pool.q, nn.Identity):
        query = F.linear(query, pool.q.weight, pool.q.bias)
    query = query.view(pool.num_heads, 1, -1)
    norm_query = _optional_norm(pool.q_norm, f"{where}.q_norm")
    return AttentionPool(
        query=query if norm_query is None else norm_query(query),
        norm_1=norm,
        qkv_weight=pool.kv.weight.chunk(2),
        qkv_bias=None if pool.kv.bias is None else pool.kv.bias.chunk(2),
        out_weight=pool.proj.weight,
        out_bias=pool.proj.bias,
        heads=pool.num_heads,
        scale_attention=None,
        norm_2=read_layer_norm(pool.norm, f"{where}.norm"),
        fc_weight=pool.mlp.fc1.weight,
        fc_bias=pool.mlp.fc1.bias,
        activation=find_activation(pool.mlp.act, f"{where}.mlp.act"),
        proj_weight=pool.mlp.fc2.weight,
        proj_bias=pool.mlp.fc2.bias,
        scale_mlp=None,
        norm_key=_optional_norm(pool.k_norm, f"{where}.k_norm"),
    )


def _optional_norm(module: nn.Module, where: str) -> LayerNormWeights | None:
    return None if isinstance(module, nn.Identity) else read_layer_norm(module, where)
