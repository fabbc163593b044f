"""Pre-computed (embedding, text) pairs: made once in shards, kept on disk, read for training."""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import DataLoader, Dataset


@dataclass(frozen=True)
class Pairs(Dataset):
    """N embeddings [N, d] (float32) and the N texts they should become."""

    embeddings: Tensor
    texts: list[str]

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: int) -> tuple[Tensor, str]:
        return self.embeddings[index], self.texts[index]

    @classmethod
    def concatenate(cls, parts: Iterable["Pairs"]) -> "Pairs":
        """All parts in order."""
        parts = list(parts)
        texts = [text for part in parts for text in part.texts]
        return cls(torch.cat([part.embeddings for part in parts]), texts)

    def save(self, path: Path) -> None:
        """Write one shard; it appears whole or not at all."""
        aside = path.with_suffix(".part")
        save_file({"embeddings": self.embeddings}, aside, {"texts": json.dumps(self.texts)})
        aside.rename(path)

    @classmethod
    def load(cls, path: Path) -> "Pairs":
        """Read one shard."""
        with safe_open(path, "pt") as file:
            return cls(file.get_tensor("embeddings"), json.loads(file.metadata()["texts"]))


def collate(rows: list[tuple[Tensor, str]]) -> tuple[Tensor, list[str]]:
    """Batch of `Pairs`: embeddings [B, d] and B texts."""
    return torch.stack([row[0] for row in rows]), [row[1] for row in rows]


class _Shards(Dataset):
    """Making the shards that are not on disk yet; an item is the path of a shard that now is."""

    def __init__(self, paths: list[Path], make: Callable[[int], Pairs]) -> None:
        self.make = make
        self.missing = [(number, path) for number, path in enumerate(paths) if not path.exists()]

    def __len__(self) -> int:
        return len(self.missing)

    def __getitem__(self, index: int) -> str:
        number, path = self.missing[index]
        self.make(number).save(path)
        return str(path)


def make_or_load(
    root: Path, key: dict[str, Any], shards: int, make: Callable[[int], Pairs], workers: int = 0
) -> list[Pairs]:
    """All shards of what `key` describes, made where they are not on disk yet.

    The folder is named after a digest of `key`, which must hold everything the pairs depend on, so
    a changed setting never meets old embeddings and an interrupted run goes on where it stopped.

    Args:
        root: folder for all sets of pairs.
        key: JSON values.
        shards: how many.
        make: shard number -> its pairs.
        workers: processes that make shards, one thread each; 0 makes them in this one. Needs a
            system that can fork.
    """
    text = json.dumps(key, sort_keys=True)
    folder = root / hashlib.sha256(text.encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "key.json").write_text(text)
    paths = [folder / f"{number:05d}.safetensors" for number in range(shards)]
    context = "fork" if workers else None
    for _ in DataLoader(
        _Shards(paths, make), batch_size=None, num_workers=workers, multiprocessing_context=context
    ):
        pass
    return [Pairs.load(path) for path in paths]


def weights_digest(module: torch.nn.Module) -> str:
    """Short digest of all weights, for keys."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
