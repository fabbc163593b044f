"""Turns a region's relevance map into weights of patches, for models that read patches."""

from __future__ import annotations

import torch
from torch import Tensor


def patch_weights(relevance: Tensor, coverage: Tensor, picture: Tensor) -> Tensor:
    """Weights ``[M, N]`` in [0, 1] of N patches for M regions, at least one of them 1 in each.

    The mask says how many patches, the map says which: of the most relevant patches, as many as the
    mask's area (in patches, rounded) have weight 1. The weight of any other is its relevance
    divided by that of the least relevant of those. So a map that equals its mask gives the mask's
    patches, a map that reaches beyond it adds patches there in proportion to their relevance, and
    for a region that is the whole picture all weights are 1, whatever the map.

    Where the map has fewer relevant patches than the mask is large, as a map without contrast has,
    the patches that the mask covers most make up the number.

    Args:
        relevance: raw maps ``[M, gh, gw]``; min-max scaled here, as in MaskInversion's loss.
        coverage: how much of each patch the masks cover, ``[M, gh * gw]`` in [0, 1].
        picture: how much of each patch is picture and not padding, ``[gh * gw]`` in [0, 1].
    """
    maps = relevance.flatten(1).float()
    low, high = maps.amin(1, keepdim=True), maps.amax(1, keepdim=True)
    maps = (maps - low) / (high - low).clamp_min(torch.finfo(maps.dtype).tiny)
    patches = maps.shape[1]
    whole = (coverage >= picture).all(1)
    counts = coverage.sum(1).round().long().clamp(1, patches)
    counts = torch.where(whole, patches, counts)

    by_coverage = coverage.sort(dim=1, descending=True, stable=True).indices
    by_map = maps.gather(1, by_coverage).sort(dim=1, descending=True, stable=True).indices
    order = by_coverage.gather(1, by_map)
    ranks = torch.empty_like(order).scatter_(
        1, order, torch.arange(patches, device=order.device).expand_as(order)
    )
    least = maps.gather(1, order).gather(1, counts[:, None] - 1)
    shares = maps / least.clamp_min(torch.finfo(maps.dtype).tiny)
    rest = torch.where(least > 0, shares, torch.zeros_like(maps))
    return torch.where(ranks < counts[:, None], torch.ones_like(maps), rest.clamp(0, 1))
