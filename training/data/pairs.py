"""Pairs of an embedding and a text: held in memory, or what is kept of others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset


@dataclass(frozen=True, eq=False)
class Pairs(Dataset[tuple[Tensor, str]]):
    """Embeddings [N, d], and texts that they should become.

    owners: for each text, the number of its embedding; None: each has its own.
    skipped, first_skipped: how many were left out, and why the first one was. digest: of the file.
    origin, numbers: the file, and which of its captions each text is, for messages.
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
        """Where a text is from."""
        number = index if self.numbers is None else self.numbers[index]
        return f"{self.origin}, caption {number}"


class PairPart(Protocol):
    """One set of pairs that knows where its texts are from; see `Pairs`."""

    digest: str
    skipped: int
    first_skipped: str | None

    @property
    def texts(self) -> Iterable[str]:
        """All of them, in order."""

    def place(self, index: int) -> str:
        """Where a text is from."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[Tensor, str]: ...


class Kept(Dataset[tuple[Tensor, str]]):
    """A set without those pairs that can't be used.

    pairs: all of them. bad: numbers of those to leave out, and why: a line each.
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
