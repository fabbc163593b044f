"""The datasets by name."""

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
    """Open a dataset on this machine; this reads annotations but no images.

    name: a key of `DATASETS`. root: its folder, laid out as by its authors; None for `mini`, which
    ships with the package. split: None takes the one that the MaskInversion paper most likely
    reports. limit: maximal number of images, drawn with `seed`; None takes all. allow_missing:
    report an image with a missing file when it is read, not now. options: the fields of its class
    in `DATASET_OPTIONS`.

    Raises DataError: unknown name, split or option, a bad value; missing or damaged files; no
    image. Warns (`DataWarning`) if counts differ from the published ones.
    """
    check_request(name, root, options)
    if split is not None:
        options["split"] = split
    dataset = DATASETS[name](root, allow_missing=allow_missing, **options)
    if not len(dataset):
        files = " and ".join(map(str, dataset.annotations))
        raise DataError(
            f"{name}: the split {dataset.split} has no image with these options; looked in {files}"
        )
    return dataset if limit is None else dataset.limited(limit, seed)
