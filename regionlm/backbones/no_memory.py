"""Modules that are built to be looked at: no memory for weights, and no time for random numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_FILLS = {
    "add_",
    "clamp_",
    "constant_",
    "erfinv_",
    "fill_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "mul_",
    "normal_",
    "ones_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zero_",
    "zeros_",
}
"""Of tensors and of ``torch.nn.init``: what only writes numbers, and has no other effect."""


@contextmanager
def without_memory() -> Iterator[None]:
    """Modules built inside have weights on the meta device.

    Their initialisation is left out: on that device it writes nothing, but takes most of the time.
    """
    with _Unfilled(), torch.device("meta"):
        yield


class _Unfilled(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in _FILLS:
            filled = args[0] if args else kwargs.get("tensor")
            if getattr(filled, "is_meta", False):
                return filled
        return func(*args, **kwargs)
