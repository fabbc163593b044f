"""Embeddings of examples, computed once and stored under a key of all that they depend on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset

from prefix_models.checks import check_choice
from regionlm.backbones.clip_vit import ClipViT
from regionlm.embedders.embedder_registry import make_embedder
from regionlm.errors import InputError
from training.data import PAIR_SOURCES, SOURCES, open_pair_source, open_source
from training.data.example import Example, Source
from training.data.pairs import PairPart, Pairs
from training.embeddings.key import backbone_key, embedder_key, store_folder
from training.embeddings.predict import Embed, compute_shards, whole_and_regions
from training.embeddings.shards import Shards
from training.fit_settings import PairSet


class PairSets(ConcatDataset[tuple[Tensor, str]]):
    """The pairs of several sets, one after another.

    digests: of the sets. skipped, first_skipped: how many examples and parts were left out, and why
    the first one was.
    """

    def __init__(self, sets: Sequence[PairPart]) -> None:
        super().__init__(sets)
        self.sets = sets
        """The sets, in order."""
        self.digests = [one.digest for one in sets]
        self.skipped = sum(one.skipped for one in sets)
        reasons = (one.first_skipped for one in sets if one.first_skipped is not None)
        self.first_skipped: str | None = next(reasons, None)


def open_pairs(
    sets: Sequence[PairSet],
    backbone: ClipViT,
    store: Path,
    machines: Mapping[str, Any],
    *,
    progress: bool = True,
    check: Callable[[Example], None] | None = None,
) -> PairSets:
    """Open all pairs of all sets, in order, after computing the embeddings that are missing.

    Args:
        sets: where the examples come from, and how they are embedded.
        backbone: computes the embeddings.
        store: folder for embeddings.
        machines: accelerator, devices, num_nodes and strategy of Lightning's Trainer.
        progress: show a progress bar.
        check: raises InputError for an example that can't be used, before it is embedded. It is not
            called for sets that skip bad examples.

    Raises:
        InputError: a source, example or option that can't be used.
        ModelError: a checkpoint that can't be used.
    """
    return PairSets([_open(one, backbone, store, machines, progress, check) for one in sets])


def embed_source(
    source: Source,
    name: str,
    embedder: str,
    options: Mapping[str, Any],
    backbone: ClipViT,
    store: Path,
    machines: Mapping[str, Any],
    *,
    limit: int | None = None,
    skip_bad: bool = False,
    workers: int = 0,
    progress: bool = True,
    check: Callable[[Example], None] | None = None,
) -> Shards:
    """Open the embeddings of a source, after computing those that are missing.

    Args:
        source: examples. `embedder` embeds regions; whole images are resized as it does.
        name: name of the source, for its folder.
        embedder, options: as `make_embedder` takes them.
        backbone: computes the embeddings; afterwards it is on its own device again.
        store: folder for all embeddings.
        machines: accelerator, devices, num_nodes and strategy of Lightning's Trainer.
        limit: use only the first so many examples.
        skip_bad, workers, progress, check: see `compute_shards`.

    Raises:
        InputError, ModelError: an example, option or model that can't be used.
    """
    regions = make_embedder(embedder, backbone, **options)
    count = len(source) if limit is None else min(limit, len(source))
    key = {
        "source": {"name": name, "count": count, **source.key},
        "embedder": embedder_key(embedder, regions),
        "backbone": backbone_key(backbone),
    }
    folder = store_folder(store, name, key)
    before = backbone.device

    def prepare(device: torch.device) -> Embed:
        backbone.to(device)
        whole = make_embedder("cls", backbone, size=regions.size, resize=regions.resize)
        return whole_and_regions(whole, make_embedder(embedder, backbone, **options))

    try:
        shards = compute_shards(
            source, prepare, folder, machines,
            count=count, skip_bad=skip_bad, workers=workers, progress=progress, check=check,
        )  # fmt: skip
    finally:
        backbone.to(before)
    found = Shards(folder, shards)
    if found.skipped and not skip_bad:  # made by a run with skip_bad
        raise InputError(found.first_skipped)
    return found


def _open(
    one: PairSet,
    backbone: ClipViT,
    store: Path,
    machines: Mapping[str, Any],
    progress: bool,
    check: Callable[[Example], None] | None,
) -> Shards | Pairs:
    if one.source in PAIR_SOURCES:
        return open_pair_source(
            one.source, one.options, dim=backbone.dim, limit=one.limit, skip_bad=one.skip_bad
        )
    check_choice("data.source", one.source, [*SOURCES, *PAIR_SOURCES], InputError)
    return embed_source(
        open_source(one.source, one.options, skip_bad=one.skip_bad), one.source,
        one.embedder, one.embedder_options, backbone, store, machines,
        limit=one.limit, skip_bad=one.skip_bad, workers=one.workers, progress=progress,
        check=None if one.skip_bad else check,
    )  # fmt: skip


__all__ = ["PairSets", "Pairs", "Shards", "embed_source", "open_pairs"]
