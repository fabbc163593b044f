"""Open a dataset by its name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from regionlm.datasets.coco import Coco
from regionlm.datasets.context import Context59
from regionlm.datasets.data_errors import DataError
from regionlm.datasets.dataset_options import check_request
from regionlm.datasets.mini import Mini
from regionlm.datasets.openimages import OpenImages
from regionlm.datasets.phrasecut import PhraseCut
from regionlm.datasets.refcoco import RefCoco
from regionlm.datasets.region_dataset import RegionDataset
from regionlm.datasets.voc import Voc2012

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
    allow_missing: bool = False,
    **options: Any,
) -> RegionDataset:
    """Open a dataset that is on this machine; annotations are read, images are not.

    name: a key of `DATASETS`. root: its folder, laid out as its authors do; None for one that
    ships (`mini`). split: None is the one that the MaskInversion paper most likely reports. limit:
    only so many images, drawn with `seed`; None: all. allow_missing: whether an image of which a
    file is missing is an error only when it is read. options: the fields of its class in
    `DATASET_OPTIONS`.

    Raises DataError: unknown name, split or option, a bad value; missing or damaged files; no
    image. Warns (`DataWarning`) where numbers differ from the published ones.
    """
    check_request(name, root, options)
    if split is not None:
        options["split"] = split
    dataset = DATASETS[name](root, allow_missing=allow_missing, **options)
    if not len(dataset):
        files = " and ".join(map(str, dataset.annotations))
        raise DataError(
            f"{name}: no image of the split {dataset.split} with these options; looked in {files}"
        )
    return dataset if limit is None else dataset.limited(limit, seed)
