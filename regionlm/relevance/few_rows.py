"""Query rows that stand for all of an image's: a lattice over the patch grid."""

from __future__ import annotations

import torch
from torch import Tensor

from regionlm.backbones.vision import EncodedImages


def few_rows(images: EncodedImages, count: int) -> Tensor | None:
    """Tokens ``[n]`` int64 of about ``count`` patches, spread evenly over the grid.

    Where the stride divides neither side of the grid they may be one fewer, else they are as many
    or somewhat more.

    None where the grid has less than twice as many: then all rows should be taken. Not for models
    that pool with attention, which have one row.

    Patch (x, y) is taken where ``x + shear * y`` is a multiple of the stride; the shear is the one
    that keeps neighbours farthest apart (a quincunx at a stride of 2). Neighbouring patches see
    much the same, so their rows add much the same to a map.
    """
    height, width = images.grid
    stride = height * width // count
    if stride < 2:
        return None
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    taken = (x + _shear(stride) * y) % stride == 0
    return (taken.flatten().nonzero()[:, 0] + images.head.prefix).to(images.residual.device)


def _shear(stride: int) -> int:
    """The shear whose lattice has the longest shortest vector."""

    def shortest(shear: int) -> int:
        found = [dy * dy + _nearest(shear * dy, stride) ** 2 for dy in range(1, stride)]
        return min(found, default=stride * stride)

    return max(range(stride), key=shortest)


def _nearest(x: int, stride: int) -> int:
    """Distance of x to the nearest multiple of the stride."""
    return min(x % stride, -x % stride)
