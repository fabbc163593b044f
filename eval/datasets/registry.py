"""Open a dataset by its name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from eval.datasets.base import RegionDataset, check_choice
from eval.datasets.coco import Coco
from eval.datasets.context import Context59
from eval.datasets.mini import Mini
from eval.datasets.openimages import OpenImages
from eval.datasets.phrasecut import PhraseCut
from eval.datasets.refcoco import RefCoco
from eval.datasets.voc import Voc2012
from eval.errors import DataError

DATASETS: dict[str, Callable[..., RegionDataset]] = {
    "phrasecut": PhraseCut,
    "refcoco": partial(RefCoco, name="refcoco"),
    "refcoco+": partial(RefCoco, name="refcoco+"),
    "voc2012": Voc2012,
    "context59": Context59,
    "coco": Coco,
    "openimages": OpenImages,
    "mini": Mini,
}


def open_dataset(
    name: str,
    root: str | Path | None,
    split: str | None = None,
    *,
    limit: int | None = None,
    seed: int = 0,
    **options: Any,
) -> RegionDataset:
    """Open a dataset that is on this machine; annotations are read, images are not.

    name: a key of `DATASETS`. root: its folder, laid out as its authors do; None for one that
    ships (`mini`). split: None is the one that the MaskInversion paper most likely reports. limit:
    only so many images, drawn with `seed`; None: all. options: those of the dataset's class.

    Raises DataError: unknown name, split or option; missing or damaged files. Warns
    (`DataWarning`) where numbers differ from the published ones.
    """
    check_choice("datasets", "name", name, tuple(DATASETS))
    opener = DATASETS[name]
    parameters = inspect.signature(opener).parameters
    if root is None and parameters["root"].default is inspect.Parameter.empty:
        raise DataError(f"data.root: expected the folder of {name}, found nothing; give it")
    known = set(parameters) - {"root", "split", "name"}
    unknown = sorted(set(options) - known)
    if unknown:
        raise DataError(
            f"{name}: expected options among {', '.join(sorted(known))}; found {unknown[0]!r}"
        )
    if split is not None:
        options["split"] = split
    dataset = opener(root, **options)
    return dataset if limit is None else dataset.limited(limit, seed)
