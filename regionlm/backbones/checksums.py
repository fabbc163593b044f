"""A number by which to notice that a tensor has changed."""

from __future__ import annotations

import torch
from torch import Tensor

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_COLUMNS = (2039, 2053)  # primes; the one used does not divide the tensor's size


def checksum(tensor: Tensor) -> int:
    """Checksum of a tensor's bits and their order; any shape, dtype and device.

    It takes one pass over the memory, about as fast as a sum. Any change of a single number changes
    the checksum; changes of several, also their reordering, do so almost certainly. Of a tensor
    without memory, which holds no numbers, it is 0.
    """
    if tensor.is_meta:
        return 0
    flat = tensor.detach().reshape(-1)
    bits = flat.view(_INTEGERS[flat.element_size()])
    columns = _COLUMNS[bits.numel() % _COLUMNS[0] == 0]
    whole = bits.numel() // columns * columns
    sums = bits[:whole].view(-1, columns).sum(0, dtype=bits.dtype).long()  # wraps around
    rest = bits[whole:]
    sums[: rest.numel()] += rest
    # Odd factors are invertible modulo 2 ** 64: no change of one column can vanish.
    odd = torch.arange(1, 2 * columns, 2, device=bits.device)
    return int((sums * odd).sum())
