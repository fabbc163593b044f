"""The sum of the maps of several layers, as LeGrad's own code takes it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from regionlm.relevance.attention_map import AttentionMap


class LayeredMap:
    """The sum of maps of one token in several blocks, each read as if it were the last.

    Bousselham et al. 2024 (arXiv 2404.03214), eq. 8, and their code, which adds them up from
    ``layer_index`` on: the output of each block is normalised and projected as the last one's is.

    Args:
        maps: of each block, all of one image.
    """

    def __init__(self, maps: Sequence[AttentionMap]) -> None:
        self._maps = list(maps)
        self.grid = maps[0].grid
        self.chunk = min(one.chunk for one in maps)

    @classmethod
    def together(cls, several: Sequence[LayeredMap], counts: Sequence[int]) -> LayeredMap:
        """See ``AttentionMap.together``."""
        layers = zip(*(one._maps for one in several), strict=True)
        return cls([AttentionMap.together(maps, counts) for maps in layers])

    @torch.no_grad()
    def forward(self, tokens: Tensor) -> Tensor:
        """Maps ``[m, gh, gw]``, raw and >= 0, of tokens ``[m, d]``, m <= ``chunk``."""
        return torch.stack([one.forward(tokens) for one in self._maps]).sum(0)

    @torch.no_grad()
    def backward(self, dmaps: Tensor) -> Tensor:
        """Gradient ``[m, d]`` at the last ``forward``'s tokens, given ``[m, gh, gw]`` at its maps.

        After a forward of a single token m may be larger: m losses of the same map.
        """
        return torch.stack([one.backward(dmaps) for one in self._maps]).sum(0)
