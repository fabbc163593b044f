"""Pairs of embedding and text: in memory, or selected from others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset


@dataclass(frozen=True, eq=False)
class Pairs(Dataset[tuple[Tensor, str]]):
    """Embeddings, ``[N, d]``, and the texts that they should become.

    owners: for each text, the row of its embedding; None if each text has its own. skipped,
    first_skipped: how many texts were left out, and why the first one was. digest: of the file.
    origin, numbers: the file, and for each text its number among the captions, for messages.
    """

    embeddings: Tensor
    texts: list[str]
    owners: list[int] | None = None
    skipped: int = 0
    first_skipped: str | None = None
    digest: str = ""
    origin: str = "data"
    numbers: list[int] | None = None

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: int) -> tuple[Tensor, str]:
        owner = index if self.owners is None else self.owners[index]
        return self.embeddings[owner].float(), self.texts[index]

    def place(self, index: int) -> str:
        """Where a text is from, for messages."""
        number = index if self.numbers is None else self.numbers[index]
        return f"{self.origin}, caption {number}"


class PairPart(Protocol):
    """One set of pairs; see `Pairs`."""

    digest: str
    skipped: int
    first_skipped: str | None

    @property
    def texts(self) -> Iterable[str]:
        """All texts, in order."""

    def place(self, index: int) -> str:
        """Where a text is from, for messages."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[Tensor, str]: ...


class Kept(Dataset[tuple[Tensor, str]]):
    """A set without the pairs that can't be used.

    pairs: the whole set. bad: the numbers of pairs to leave out, and why, one line each.
    """

    def __init__(self, pairs: PairPart, bad: Mapping[int, str]) -> None:
        self.pairs, self.digest = pairs, pairs.digest
        self.rows = np.setdiff1d(np.arange(len(pairs)), list(bad))
        self.skipped = pairs.skipped + len(bad)
        self.first_skipped = pairs.first_skipped or next(iter(bad.values()), None)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, str]:
        return self.pairs[int(self.rows[index])]
