"""Embeddings of examples: computed once, kept on disk under a key of all they depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import ConcatDataset

from regionlm.backbones.clip_vit import ClipViT
from regionlm.bulk.regions import check_region, read_region
from regionlm.embedders.registry import make_embedder
from regionlm.errors import InputError
from regionlm.images import open_image
from training.pairs import Pairs, make_or_load, weights_digest
from training.settings import PairSet

_SHARD = 64


def open_pairs(
    sets: Sequence[PairSet], backbone: ClipViT, store: Path, machines: Mapping[str, Any]
) -> ConcatDataset:
    """All pairs of all sets, in order; what is missing in the store is computed first.

    Args:
        sets: where examples come from and how they are embedded.
        backbone: of the embeddings.
        store: folder for embeddings.
        machines: Lightning's accelerator, devices, num_nodes, strategy.

    Raises:
        InputError: a source, example or option that can't be used.
    """
    return ConcatDataset([_manifest(one, backbone, store) for one in sets])


def _manifest(one: PairSet, backbone: ClipViT, store: Path) -> Pairs:
    if one.source != "manifest" or set(one.options) != {"path"}:
        raise InputError(f"data.source: expected manifest with options.path, found {one.source!r}")
    path = Path(one.options["path"])
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InputError(f"manifest {path} cannot be read: {error.strerror}") from error
    lines = [json.loads(line) for line in text.splitlines() if line.strip()][: one.limit]
    embedder = make_embedder(one.embedder, backbone, **one.embedder_options)
    whole = make_embedder("cls", backbone, size=embedder.size)

    def make(shard: int) -> Pairs:
        embeddings, texts = [], []
        for line in lines[shard * _SHARD : (shard + 1) * _SHARD]:
            image = open_image(str(path.parent / line["image"]))
            if "caption" in line:
                full = np.ones((1, image.height, image.width), bool)
                embeddings.append(whole(image, full).rescaled().cpu())
                texts.append(line["caption"])
                continue
            masks = []
            for position, region in enumerate(line["regions"]):
                form = {key: value for key, value in region.items() if key != "caption"}
                check_region(form)
                masks.append(read_region(form, position, path.parent, image.size)[0].mask)
                texts.append(region["caption"])
            embeddings.append(embedder(image, np.stack(masks)).rescaled().cpu())
        return Pairs(torch.cat(embeddings).float(), texts)

    key = {
        "manifest": hashlib.sha256(text).hexdigest(),
        "limit": one.limit,
        "embedder": one.embedder,
        "options": one.embedder_options,
        "defaults": backbone.inversion_defaults,
        "size": list(embedder.size),
        "weights": weights_digest(backbone.model),
    }
    count = -(-len(lines) // _SHARD)
    return Pairs.concatenate(make_or_load(store, key, count, make))
