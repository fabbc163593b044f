"""Compute shards of embeddings in a Lightning predict run, on any number of devices."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from regionlm.distributed.predict_module import PredictModule
from regionlm.distributed.trainer import device_count, new_trainer, predict_items
from regionlm.embedders.embedder import Embedder
from regionlm.errors import InputError
from regionlm.files import writing
from training.data.example import Example, Source
from training.embeddings.shards import read_bad, shard_path, storable, write_shard

TOGETHER = 8  # examples in one call of the embedder
SHARD = 32  # groups in a shard, so 256 examples, whatever the number of devices

Embed = Callable[[list[Example]], list[torch.Tensor]]
"""Returns for each example the embeddings of its regions, ``[M, d]``."""


def compute_shards(
    source: Source,
    prepare: Callable[[torch.device], Embed],
    folder: Path,
    machines: Mapping[str, Any],
    *,
    count: int,
    skip_bad: bool = False,
    workers: int = 0,
    progress: bool = True,
    check: Callable[[Example], None] | None = None,
) -> int:
    """Write the missing shards of the first `count` examples, and return the number of all shards.

    A shard that left out bad examples is made again when these can be used now. In a distributed
    run every process calls this, and all must see ``folder``. The contents of a shard do not depend
    on the number of processes or on stops.

    Args:
        source: examples.
        prepare: loads the embedder on the device of a process.
        folder: folder for the shards.
        machines: accelerator, devices, num_nodes and strategy of Lightning's Trainer.
        count: number of examples.
        skip_bad: leave out and count what can't be used.
        workers: threads per process that decode images.
        progress: show a progress bar.
        check: raises InputError for an example that can't be used, before it is embedded.

    Raises:
        InputError, ModelError: an example or model that can't be used; finished shards stay.
    """
    groups = _Groups(source, count, skip_bad)
    shards = -(-len(groups) // SHARD)
    _remove_repaired(groups, folder, shards)
    if all(shard_path(folder, number).exists() for number in range(shards)):
        return shards

    def prepare_answer(device: torch.device) -> Callable[[int, list[Example | str]], dict]:
        embed = prepare(device)
        return lambda number, read: _answer(embed, number, read, check)

    module = PredictModule(
        groups,
        prepare_answer,
        _ShardJournal(folder, len(groups)),
        workers=workers,
        progress=progress,
        block=SHARD,
        images_per_item=TOGETHER,
    )
    trainer = new_trainer(**_concrete(machines))
    predict_items(trainer, module, lambda: None)
    return shards


class _Groups:
    """Groups of examples; with skip_bad, one that can't be used is replaced by the reason."""

    def __init__(self, source: Source, count: int, skip_bad: bool) -> None:
        self.source, self.count, self.skip_bad = source, count, skip_bad

    def __len__(self) -> int:
        return -(-self.count // TOGETHER)

    def __getitem__(self, index: int) -> list[Example | str]:
        found: list[Example | str] = []
        for number in range(index * TOGETHER, min((index + 1) * TOGETHER, self.count)):
            try:
                found.append(self.source[number])
            except InputError as error:
                if not self.skip_bad:
                    raise
                found.append(" ".join(str(error).split()))
        return found

    def repaired(self, number: int, bad: list[str]) -> bool:
        """Whether an example can be used now, all or parts of which were left out for reasons."""
        try:
            found = self.source[number].bad
        except InputError as error:
            found = [" ".join(str(error).split())]
        return storable(found) != bad if self.skip_bad else not found


def _remove_repaired(groups: _Groups, folder: Path, shards: int) -> None:
    for number in range(shards):
        path = shard_path(folder, number)
        if path.exists() and any(groups.repaired(*one) for one in read_bad(path)):
            with writing(path):
                path.unlink(missing_ok=True)


def _answer(
    embed: Embed,
    number: int,
    read: list[Example | str],
    check: Callable[[Example], None] | None,
) -> dict[str, Any]:
    examples = [one for one in read if isinstance(one, Example)]
    if check is not None:
        for one in examples:
            check(one)
    reasons = [[one] if isinstance(one, str) else one.bad for one in read]
    embeddings = [found.float().cpu() for found in embed(examples)] if examples else []
    return {
        "embeddings": embeddings,
        "texts": [captions for one in examples for captions in one.texts],
        "places": [(one.place, sum(map(len, one.texts))) for one in examples],
        "bad": [one for one in enumerate(reasons, number * TOGETHER) if one[1]],
    }


class _ShardJournal:
    """An `AnswerStore` of shards."""

    def __init__(self, folder: Path, groups: int) -> None:
        self.folder, self.groups = folder, groups

    def done(self) -> np.ndarray:
        numbers = np.arange(self.groups)
        there = [shard_path(self.folder, n).exists() for n in range(-(-self.groups // SHARD))]
        return numbers[np.array(there, bool)[numbers // SHARD]]

    def writer(self, process: int) -> _ShardWriter:
        return _ShardWriter(self.folder, self.groups)

    @property
    def _stop(self) -> Path:
        return self.folder / "stop"

    def ask_to_stop(self) -> None:
        with contextlib.suppress(
            OSError
        ):  # the disk is full, which the other processes will find, too
            self._stop.touch()

    def start_again(self) -> None:
        self._stop.unlink(missing_ok=True)

    @property
    def stopped(self) -> bool:
        return self._stop.exists()

    def discard_if_empty(self) -> None:
        self.start_again()
        if next(self.folder.glob("*.safetensors"), None) is None:
            (self.folder / "key.json").unlink(missing_ok=True)
            for folder in (self.folder, self.folder.parent):
                with contextlib.suppress(OSError):  # it holds other files
                    folder.rmdir()


class _ShardWriter:
    """Collects the groups of a shard, which come in order, and writes it after the last."""

    def __init__(self, folder: Path, groups: int) -> None:
        self.folder, self.groups = folder, groups
        self._collected: list[dict[str, Any]] = []

    def write(self, number: int, answer: dict[str, Any]) -> None:
        self._collected.append(answer)
        if (number + 1) % SHARD and number + 1 < self.groups:
            return
        parts, self._collected = self._collected, []
        embeddings = [found for part in parts for found in part["embeddings"]]
        captions = [texts for part in parts for texts in part["texts"]]
        bad, places = ([one for part in parts for one in part[name]] for name in ("bad", "places"))
        owners = [owner for owner, texts in enumerate(captions) for _ in texts]
        joined = torch.cat(embeddings) if embeddings else torch.zeros(0, 0)
        if len(joined) != len(captions):
            raise AssertionError("an embedding for each list of captions")
        texts = [text for texts in captions for text in texts]
        path = shard_path(self.folder, number // SHARD)
        write_shard(path, joined, texts, owners, bad, places)

    def close(self) -> None:
        """Drop an incomplete shard, which is made again."""


def whole_and_regions(whole: Embedder, regions: Embedder) -> Embed:
    """Embed regions with one embedder and whole images with another.

    Embeddings get the norm of the embedding of their image, as captioners expect it.
    """

    def embed(examples: list[Example]) -> list[torch.Tensor]:
        found: dict[int, torch.Tensor] = {}
        for embedder, wanted in ((whole, True), (regions, False)):
            chosen = [i for i, one in enumerate(examples) if (one.masks is None) == wanted]
            if chosen:
                images = [examples[i].image for i in chosen]
                masks = [_masks(examples[i]) for i in chosen]
                for i, one in zip(chosen, embedder.localize_batch(images, masks), strict=True):
                    found[i] = one.rescaled().cpu()
        return [found[i] for i in range(len(examples))]

    return embed


def _masks(example: Example) -> np.ndarray:
    if example.masks is not None:
        return example.masks
    return np.ones((1, example.image.height, example.image.width), bool)


def _concrete(machines: Mapping[str, Any]) -> dict[str, Any]:
    """The machines of a `trainer` section for a predict run, which can't use sharded strategies."""
    found: dict[str, Any] = {"accelerator": "auto", "devices": "auto", **machines}
    if not isinstance(found["devices"], list):
        found["devices"] = device_count(found["accelerator"], found["devices"])
    if found.get("strategy") != "ddp":
        found["strategy"] = "auto"
    return found
