"""Shards of embeddings on disk.

Each is a safetensors file with n embeddings and m texts: ``embeddings``, float32 ``[n, d]``;
``texts``, uint8, the UTF-8 bytes of all texts; ``offsets``, int64 ``[m + 1]``, where each text
starts and the last one ends; ``owners``, int64 ``[m]``, the embedding of each text. The metadata
say where the texts are from, which examples or parts were left out, and why.
"""

from __future__ import annotations

import json
import os
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.utils.data import Dataset

from regionlm.errors import InputError
from regionlm.files import write_atomically

_OPEN = 256  # shards kept open; a process may have about 1,000 open files


def shard_path(folder: Path, number: int) -> Path:
    """The path of a shard."""
    return folder / f"{number:06d}.safetensors"


Bad = Sequence[tuple[int, list[str]]]
"""Numbers of examples that were left out, all or in part, with the reasons, one line each."""


def write_shard(
    path: Path,
    embeddings: Tensor,
    texts: Sequence[str],
    owners: Sequence[int],
    bad: Bad,
    places: Sequence[tuple[str, int]] = (),
) -> None:
    """Write a shard, completely or not at all.

    embeddings: ``[n, d]``. owners: for each text, the row of its embedding. places: in the order of
    the texts, where they are from, such as "m.jsonl, line 3", and how many are from there.

    Raises InputError: the file is not writable, or the disk is full.
    """
    encoded = [text.encode() for text in texts]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    joined = np.frombuffer(b"".join(encoded), np.uint8)
    tensors = {
        "embeddings": embeddings.float().contiguous(),
        "texts": torch.from_numpy(joined.copy()),
        "offsets": torch.from_numpy(ends),
        "owners": torch.tensor(list(owners), dtype=torch.int64),
    }
    # A single entry, since safetensors writes several in no fixed order, and shards must be equal.
    examples = {
        "bad": [(number, storable(reasons)) for number, reasons in bad],
        "places": [(*storable([place]), count) for place, count in places],
    }
    # Not save_file, whose error does not say that the disk is full.
    data = save(tensors, {"examples": json.dumps(examples)})
    write_atomically(path, lambda aside: _write(aside, data))


class Shards(Dataset[tuple[Tensor, str]]):
    """The pairs of all shards of a folder, in order, memory-mapped.

    Args:
        folder: folder of shards that `write_shard` wrote.
        count: number of shards.

    Raises:
        InputError: a shard is missing or damaged.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.digest = folder, folder.name
        self.skipped = 0
        """Number of examples and parts that were left out."""
        self.first_skipped: str | None = None
        """Why the first of these was left out."""
        self._opened: OrderedDict[int, _Shard] = OrderedDict()
        lengths = []
        for number in range(count):
            shard = _Shard(shard_path(folder, number))
            lengths.append(len(shard.owners))
            reasons = [reason for _, found in shard.bad for reason in found]
            self.skipped += len(reasons)
            self.first_skipped = self.first_skipped or next(iter(reasons), None)
        self._ends = list(accumulate(lengths))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> tuple[Tensor, str]:
        shard, place = self._find(index)
        return shard.pair(place)

    @property
    def texts(self) -> Iterator[str]:
        """All texts, in order."""
        for number in range(len(self._ends)):
            yield from _Shard(shard_path(self.folder, number)).all_texts()

    def place(self, index: int) -> str:
        """Where a text is from, such as "m.jsonl, line 3"."""
        shard, place = self._find(index)
        return shard.place(place) or f"{self.folder.name}, pair {index}"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": OrderedDict()}  # open files can't be pickled

    def _find(self, index: int) -> tuple[_Shard, int]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = bisect_right(self._ends, index)
        return self._shard(number), index - (self._ends[number - 1] if number else 0)

    def _shard(self, number: int) -> _Shard:
        if number not in self._opened:
            self._opened[number] = _Shard(shard_path(self.folder, number))
            if len(self._opened) > _OPEN:
                self._opened.popitem(last=False)
        self._opened.move_to_end(number)
        return self._opened[number]


class _Shard:
    """An open shard."""

    def __init__(self, path: Path) -> None:
        try:
            file = safe_open(path, "pt")
            self.embeddings, self.texts = file.get_slice("embeddings"), file.get_slice("texts")
            self.offsets = file.get_tensor("offsets").tolist()
            self.owners = file.get_tensor("owners").tolist()
            examples = json.loads(file.metadata()["examples"])
            self.bad: Bad = examples["bad"]
            self.places: list[tuple[str, int]] = examples["places"]
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"embeddings {path}: missing or damaged ({error}); delete it and run again"
            ) from error

    def pair(self, index: int) -> tuple[Tensor, str]:
        start, end = self.offsets[index : index + 2]
        owner = self.owners[index]
        return self.embeddings[owner : owner + 1][0], self.texts[
            start:end
        ].numpy().tobytes().decode()

    def all_texts(self) -> Iterator[str]:
        if not self.owners:
            return
        joined = self.texts[:].numpy().tobytes()
        for start, end in pairwise(self.offsets):
            yield joined[start:end].decode()

    def place(self, index: int) -> str:
        ends = list(accumulate(count for _, count in self.places))
        number = bisect_right(ends, index)
        return self.places[number][0] if number < len(ends) else ""


def read_bad(path: Path) -> Bad:
    """The examples and parts that a shard left out."""
    return _Shard(path).bad


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def storable(texts: Sequence[str]) -> list[str]:
    """Texts as UTF-8, which metadata of safetensors must be and paths need not be."""
    return [text.encode("utf-8", "backslashreplace").decode() for text in texts]
