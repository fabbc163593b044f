"""What every relevance method offers to an inversion."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Relevance(Protocol):
    """Maps of one encoded image on its patch grid, as a differentiable function of a token."""

    grid: tuple[int, int]
    chunk: int
    """Most tokens one ``forward`` takes."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Raw maps ``[m, gh, gw]`` of tokens of the joint space ``[m, d]``, m <= ``chunk``."""

    def backward(self, dmaps: Tensor) -> Tensor:
        """Gradient ``[m, d]`` at the last ``forward``'s tokens, given ``[m, gh, gw]`` at its maps.

        After a forward of a single token m may be larger: m losses of the same map.
        """
