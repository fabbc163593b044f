"""A language model's outline: the same class and settings, with weights that take no memory."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from prefix_models.errors import PrefixModelError, refusing


def base_of(lm: nn.Module) -> Any:
    """Return transformers' model inside the wrappers of peft and torch.compile.

    Raises:
        PrefixModelError: there is none.
    """
    from transformers import PreTrainedModel

    for part in lm.modules():
        if isinstance(part, PreTrainedModel):
            return part
    raise PrefixModelError(f"expected a language model of transformers, found {type(lm).__name__}")


def outline_of(lm: nn.Module) -> Any:
    """Return a model of the language model's class and config, on "meta", without adapters.

    Raises:
        PrefixModelError: its class can't be instantiated again.
    """
    base = base_of(lm)
    with (
        refusing(
            PrefixModelError,
            f"the language model, a {type(base).__name__}, can't be rebuilt from its settings",
        ),
        no_random_numbers(),
        torch.device("meta"),
    ):
        return type(base)(copy.deepcopy(base.config))


@contextmanager
def no_random_numbers() -> Iterator[None]:
    """Leave the caller's random numbers alone while weights are drawn only to be replaced."""
    with torch.random.fork_rng(devices=[]):
        yield
