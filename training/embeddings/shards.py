"""Shards of embeddings on disk.

One safetensors file each: ``embeddings`` float32 [n, d]; ``texts`` the UTF-8 bytes of m texts one
after another, uint8; ``offsets`` int64 [m + 1] where each starts and the last one ends; ``owners``
int64 [m] the embedding of each. Its metadata say which examples or parts were left out and why, and
where the others are from.
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

_OPEN = 256  # shards held open: each takes a file handle, of which a process has about 1,000


def shard_path(folder: Path, number: int) -> Path:
    """Where a shard is."""
    return folder / f"{number:06d}.safetensors"


Bad = Sequence[tuple[int, list[str]]]
"""Numbers of examples that could not be used, or parts of them, and why: a line each."""


def write_shard(
    path: Path,
    embeddings: Tensor,
    texts: Sequence[str],
    owners: Sequence[int],
    bad: Bad,
    places: Sequence[tuple[str, int]] = (),
) -> None:
    """Write a shard; it appears whole or not at all.

    places: where the texts are from, such as "m.jsonl, line 3", and how many are, in their order.

    Raises InputError: the system refuses, such as for want of room.
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
    # One entry: safetensors writes several in no fixed order, and equal shards have equal bytes.
    examples = {
        "bad": [(number, storable(reasons)) for number, reasons in bad],
        "places": [(*storable([place]), count) for place, count in places],
    }
    # Not save_file: its error does not say that the disk is full.
    data = save(tensors, {"examples": json.dumps(examples)})
    write_atomically(path, lambda aside: _write(aside, data))


class Shards(Dataset[tuple[Tensor, str]]):
    """Pairs of all shards of a folder, in order; read memory-mapped when asked for.

    Args:
        folder: of `count` shards, written by `write_shard`.

    Raises:
        InputError: a shard is missing or damaged.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.digest = folder, folder.name
        self.skipped = 0
        """Examples and parts that were left out."""
        self.first_skipped: str | None = None
        """Why the first of them was."""
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
        return {**self.__dict__, "_opened": OrderedDict()}  # open files can't be sent

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
                f"embeddings {path}: missing or damaged ({error}); delete it, and it is made again"
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
    """What a shard says it was made without."""
    return _Shard(path).bad


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def storable(texts: Sequence[str]) -> list[str]:
    """A path may not be UTF-8, and safetensors' metadata must be."""
    return [text.encode("utf-8", "backslashreplace").decode() for text in texts]
