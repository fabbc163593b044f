"""Batches that depend on nothing but seed and step number.

Each process draws the whole batch of a step, with its noise, and takes the rows of its
micro-batches. Thus a step is the same on one process or several, with or without accumulation, and
in a resumed run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from regionlm.errors import InputError

ORDER, NOISE, DROPOUT = range(3)  # independent streams of random numbers


class PairDataset(Protocol):
    """Map-style dataset of embeddings, float32 ``[d]``, and the texts they should become."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[Tensor, str]: ...


class Batch(NamedTuple):
    """The rows of one process in one micro-batch.

    embeddings: float32 ``[rows, d]``. weight: factor for the mean loss over the tokens of these
    rows; the average of the products, over all processes and micro-batches, is the mean loss over
    all tokens of the step.
    """

    embeddings: Tensor
    texts: list[str]
    weight: float
    step: int
    part: int  # index among all parts of the step


@dataclass(frozen=True)
class Split:
    """Which rows of each step this process takes: process `rank` of `world`, `micro` batches."""

    rank: int = 0
    world: int = 1
    micro: int = 1

    @property
    def parts(self) -> int:
        """Number of parts into which a batch is split."""
        return self.world * self.micro


def random_numbers(seed: int, *place: int) -> np.random.Generator:
    """Generator of random numbers that are independent of those of any other place."""
    return np.random.default_rng([seed, *place])


class StepBatches:
    """The batches of one process, from step `first` up to `steps`.

    Args:
        pairs: all pairs, always in the same order.
        steps: number of steps in the whole run.
        batch_size: number of pairs in a step.
        seed: seed of order and noise.
        count_tokens: returns, for some texts, how many tokens of each count in the loss.
        noise: see `training.fit_settings.Recipe`.
        first: first step to yield.
        split: which rows this process takes.

    Raises:
        InputError: a batch needs more pairs than there are, or more rows than it has.
    """

    def __init__(
        self,
        pairs: PairDataset,
        steps: int,
        batch_size: int,
        seed: int,
        count_tokens: Callable[[Sequence[str]], list[int]],
        *,
        noise: float = 0.0,
        first: int = 0,
        split: Split | None = None,
    ) -> None:
        self.split = split or Split()
        if batch_size < self.split.parts:
            raise InputError(
                f"recipe.batch_size: expected at least one pair for each of {self.split.world}"
                f" processes and {self.split.micro} micro-batches, found {batch_size}"
            )
        self.pairs, self.steps, self.batch_size, self.seed = pairs, steps, batch_size, seed
        self.count_tokens, self.noise, self.first = count_tokens, noise, first
        self.steps_an_epoch = steps_per_epoch(len(pairs), batch_size)
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0))

    def __iter__(self) -> Iterator[Batch]:
        """Yield the micro-batches of this process, step by step."""
        for step in range(self.first, self.steps):
            embeddings, texts = self._whole(step)
            tokens = np.array(self.count_tokens(texts))
            rows = np.array_split(np.arange(len(texts)), self.split.parts)
            for micro in range(self.split.micro):
                part = micro * self.split.world + self.split.rank
                mine = rows[part]
                weight = float(tokens[mine].sum() * self.split.parts / max(tokens.sum(), 1))
                yield Batch(embeddings[mine], [texts[row] for row in mine], weight, step, part)

    def _whole(self, step: int) -> tuple[Tensor, list[str]]:
        epoch, number = divmod(step, self.steps_an_epoch)
        if self._order[0] != epoch:
            rng = random_numbers(self.seed, ORDER, epoch)
            self._order = (epoch, rng.permutation(len(self.pairs)))
        rows = self._order[1][number * self.batch_size : (number + 1) * self.batch_size]
        drawn = [self.pairs[int(row)] for row in rows]
        embeddings = torch.stack([embedding for embedding, _ in drawn]).float()
        return self._with_noise(embeddings, step), [text for _, text in drawn]

    def _with_noise(self, embeddings: Tensor, step: int) -> Tensor:
        if not self.noise:
            return embeddings
        rng = random_numbers(self.seed, NOISE, step)
        drawn = torch.from_numpy(rng.standard_normal(tuple(embeddings.shape), np.float32))
        scale = self.noise * embeddings.pow(2).mean(1, keepdim=True).sqrt()
        return embeddings + scale * drawn


class ValidationBatches:
    """All pairs once, in order; `weight` is the number of tokens.

    All processes yield the same number of batches, which sharded strategies need. A process without
    rows repeats one with weight 0.
    """

    def __init__(
        self,
        pairs: PairDataset,
        batch_size: int,
        count_tokens: Callable[[Sequence[str]], list[int]],
        split: Split | None = None,
    ) -> None:
        self.pairs, self.batch_size = pairs, batch_size
        self.count_tokens, self.split = count_tokens, split or Split()

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches of this process."""
        world, rank = self.split.world, self.split.rank
        for number, start in enumerate(range(0, len(self.pairs), self.batch_size)):
            rows = np.arange(start, min(start + self.batch_size, len(self.pairs)))
            mine = np.array_split(rows, world)[rank]
            drawn = [self.pairs[int(row)] for row in (mine if len(mine) else rows[:1])]
            texts = [text for _, text in drawn]
            weight = float(sum(self.count_tokens(texts))) if len(mine) else 0.0
            yield Batch(torch.stack([e for e, _ in drawn]).float(), texts, weight, number, rank)


def steps_per_epoch(pairs: int, batch_size: int) -> int:
    """Number of full batches in a pass. Raises InputError if there are none."""
    if batch_size < 1:
        raise InputError(f"recipe.batch_size: expected at least 1, found {batch_size}")
    if pairs < batch_size:
        raise InputError(
            f"recipe.batch_size: expected at most the number of pairs, {pairs}; found {batch_size}"
        )
    return pairs // batch_size
