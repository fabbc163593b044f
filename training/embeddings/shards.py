"""Shards of embeddings on disk.

One safetensors file each: ``embeddings`` float32 [n, d]; ``texts`` the UTF-8 bytes of m texts one
after another, uint8; ``offsets`` int64 [m + 1] where each starts and the last one ends; ``owners``
int64 [m] the embedding of each. Its metadata say how many examples or parts were left out, and why
the first one was.
"""

from __future__ import annotations

import json
import os
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.utils.data import Dataset

from regionlm.errors import InputError
from regionlm.outputs import write_atomically

_OPEN = 256  # shards held open: each takes a file handle, of which a process has about 1,000


def shard_path(folder: Path, number: int) -> Path:
    """Where a shard is."""
    return folder / f"{number:06d}.safetensors"


def write_shard(
    path: Path, embeddings: Tensor, texts: Sequence[str], owners: Sequence[int], bad: Sequence[str]
) -> None:
    """Write a shard; it appears whole or not at all.

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
    bad_ones = json.dumps({"skipped": len(bad), "first": _storable(bad[0]) if bad else ""})
    # Not save_file: its error does not say that the disk is full.
    data = save(tensors, {"bad": bad_ones})
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
            self.skipped += shard.bad["skipped"]
            self.first_skipped = self.first_skipped or shard.bad["first"] or None
        self._ends = list(accumulate(lengths))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> tuple[Tensor, str]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = bisect_right(self._ends, index)
        return self._shard(number).pair(index - (self._ends[number - 1] if number else 0))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": OrderedDict()}  # open files can't be sent

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
            self.bad = json.loads(file.metadata()["bad"])
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


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _storable(text: str) -> str:
    """A path may not be UTF-8, and safetensors' metadata must be."""
    return text.encode("utf-8", "backslashreplace").decode()
