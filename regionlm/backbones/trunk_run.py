"""The blocks of a trunk, one after the other: in half precision, or compiled, if asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from prefix_models.errors import refusing
from regionlm.backbones.blocks import BlockWeights
from regionlm.backbones.trunk_options import TrunkOptions
from regionlm.devices import resolve_device
from regionlm.errors import InputError


def run_blocks(x: Tensor, blocks: Sequence[BlockWeights], options: TrunkOptions) -> Tensor:
    """Tokens ``[B, N, D]`` after some blocks, of the type that they had before."""
    run = _compiled() if options.compile else _one_by_one
    with _in_precision(options, x.device):
        found = run(x, blocks)
    return found.to(x.dtype)


def check_trunk(options: TrunkOptions, device: str | torch.device) -> None:
    """`check_trunk_options`, before a model is loaded on a device; it is taken to be in float32.

    Raises:
        InputError: as there. ModelError: this machine has no such device.
    """
    check_trunk_options(options, resolve_device(device), torch.float32)


def check_trunk_options(options: TrunkOptions, device: torch.device, dtype: torch.dtype) -> None:
    """Try the options out on a few numbers.

    Args:
        options: to try.
        device, dtype: of the model.

    Raises:
        InputError: they do not work on the device, or make nothing faster.
    """
    if options.precision != "float32" and dtype != torch.float32:
        kind = str(dtype).removeprefix("torch.")
        raise InputError(f"precision: the model computes in {kind} already; leave it out")
    options.check_on(device.type)
    few = torch.zeros(8, 8, device=device)
    with torch.no_grad():
        with (
            refusing(InputError, f"precision: {device} can't compute in {options.precision}"),
            _in_precision(options, device),
        ):
            F.linear(few, few)
        if options.compile:
            with refusing(InputError, "compile: torch.compile finds no way here, leave it out"):
                torch.compile(_doubled, dynamic=False)(few)


def _one_by_one(x: Tensor, blocks: Sequence[BlockWeights]) -> Tensor:
    for block in blocks:
        x = block(x)
    return x


@cache
def _compiled() -> Callable[[Tensor, Sequence[BlockWeights]], Tensor]:
    """One for all backbones: torch tells them apart, and images of another shape."""
    return torch.compile(_one_by_one, dynamic=False)


def _in_precision(options: TrunkOptions, device: torch.device) -> AbstractContextManager[object]:
    """Weights become halves as they are used: none are kept, and the stream stays as it is."""
    if options.precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, getattr(torch, options.precision), cache_enabled=False)


def _doubled(x: Tensor) -> Tensor:
    return x * 2
