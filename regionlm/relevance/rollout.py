"""Attention rollout: where the pooled token's information comes from, by all layers' attention."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from regionlm.backbones.blocks import BlockWeights
from regionlm.backbones.vision import VisionBackbone
from regionlm.relevance.budget import Budget


def attention_rollout(backbone: VisionBackbone, pixels: Tensor) -> Tensor:
    """The map ``[gh, gw]``, >= 0, of one image; float32 or wider.

    Abnar & Zuidema 2020 (arXiv 2005.00928): attention's mean over the heads and the residual
    stream, ``(A + I) / 2``, multiplied over all layers, last @ ... @ first; of the product the row
    of the token that the model pools, or the mean of the rows of several, and in it the patches.
    An attention pool is one more layer, of one row, without the residual stream.

    It is no function of a token of the joint space, so nothing can be inverted by it, and the map
    is the same whatever is looked for.

    Only the one row is computed, from the last layer backwards, and of each attention a few queries
    at a time; memory is that of the blocks' inputs, ``[N, D]`` each.

    Args:
        backbone: any.
        pixels: normalised ``[3, H, W]``, as ``backbone.preprocess`` gives them.

    Raises:
        InputError: as ``backbone.encode``.
    """
    autocast = torch.autocast(backbone.device.type, enabled=False)
    with torch.inference_mode(False), torch.no_grad(), autocast:
        blocks, head = backbone.blocks(), backbone.head()
        is_pooled = head.pooling == "attention"
        x, (height, width) = backbone.trunk(pixels[None], without=len(blocks) + is_pooled)
        blocks = [block.at((height, width)) for block in blocks]
        inputs = [x]
        for block in blocks if is_pooled else blocks[:-1]:
            inputs.append(block(inputs[-1]))
        row = x.new_zeros(x.shape[1], dtype=torch.promote_types(x.dtype, torch.float32))
        if is_pooled:  # it has no residual stream
            row = head.block.attention(inputs.pop())[0].mean(0)[0].to(row)
        else:
            row[head.pooled_tokens] = 1 / len(row[head.pooled_tokens])
        for block, x in zip(reversed(blocks), reversed(inputs), strict=True):
            row = (row + _through(block, x, row)) / 2
        return row[-height * width :].view(height, width)


def _through(block: BlockWeights, x: Tensor, row: Tensor) -> Tensor:
    """A row vector ``[N]`` times the mean of the heads' attention in the block."""
    found = torch.zeros_like(row)
    for queries in _pieces(block, row):
        attention = block.attention(x, queries)[0].mean(0)
        found += row[queries].to(attention) @ attention
    return found


def _pieces(block: BlockWeights, row: Tensor) -> Iterator[slice]:
    """Ranges of queries that count, small enough for memory."""
    used = row.nonzero().flatten()
    first, last = int(used[0]), int(used[-1]) + 1
    step = max(1, Budget.for_device(row.device).chunk // (block.heads * len(row)))
    for start in range(first, last, step):
        yield slice(start, min(start + step, last))
