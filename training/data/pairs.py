"""Pairs of an embedding and a text, held in memory."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.utils.data import Dataset


@dataclass(frozen=True, eq=False)
class Pairs(Dataset[tuple[Tensor, str]]):
    """Embeddings [N, d], and texts that they should become.

    owners: for each text, the number of its embedding; None: each has its own.
    skipped, first_skipped: how many were left out, and why the first one was. digest: of the file.
    """

    embeddings: Tensor
    texts: list[str]
    owners: list[int] | None = None
    skipped: int = 0
    first_skipped: str | None = None
    digest: str = ""

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: int) -> tuple[Tensor, str]:
        owner = index if self.owners is None else self.owners[index]
        return self.embeddings[owner].float(), self.texts[index]
