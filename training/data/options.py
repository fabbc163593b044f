"""What every source of examples can be told: one class each, read by the registry.

Nothing heavy may be imported here, so that options can be listed and checked before torch is
loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from regionlm.errors import InputError
from regionlm.inputs.numbers import check_path


@dataclass(frozen=True, kw_only=True)
class ManifestOptions:
    """Options of `manifest`.

    Args:
        path: The JSON lines.

    Raises:
        InputError: an option of another type; so for all classes here.
    """

    path: str | Path

    def __post_init__(self) -> None:
        check_path("path", self.path)


@dataclass(frozen=True, kw_only=True)
class CocoCaptionsOptions:
    """Options of `coco_captions`.

    Args:
        annotations: `captions_train2014.json` or one like it.
        images: Folder of its images.
    """

    annotations: str | Path
    images: str | Path

    def __post_init__(self) -> None:
        check_path("annotations", self.annotations)
        check_path("images", self.images)


@dataclass(frozen=True, kw_only=True)
class VisualGenomeOptions:
    """Options of `visual_genome`.

    Args:
        root: Folder of `region_descriptions.json`.
        images: Folder of VG_100K and VG_100K_2, if not root.
    """

    root: str | Path
    images: str | Path | None = None

    def __post_init__(self) -> None:
        check_path("root", self.root)
        if self.images is not None:
            check_path("images", self.images)


@dataclass(frozen=True, kw_only=True)
class PhraseCutSourceOptions:
    """Options of `phrasecut`, whose files are read as `regionlm.datasets.phrasecut` does.

    Args:
        root: Folder of `refer_*.json` and `image_data_split.json`.
        split: train, val, miniv or test; joined by "_", several.
        images: Folder of the images, if not root.
    """

    root: str | Path
    split: str = "train"
    images: str | Path | None = None

    def __post_init__(self) -> None:
        check_path("root", self.root)
        if not isinstance(self.split, str):
            raise InputError(f"split: expected the name of a split, got {self.split!r}")
        if self.images is not None:
            check_path("images", self.images)


@dataclass(frozen=True, kw_only=True)
class WebDatasetOptions:
    """Options of `webdataset`.

    Args:
        shards: Paths, patterns with ``*``, whose files are taken in the order of names, or names
            with braces, ``{000..003}`` or ``{a,b}``, each of which must be there.
    """

    shards: str | Sequence[str]

    def __post_init__(self) -> None:
        several = isinstance(self.shards, Sequence) and not isinstance(self.shards, str)
        for shard in self.shards if several else [self.shards]:
            check_path("shards", shard)


@dataclass(frozen=True, kw_only=True)
class ClipCapPairsOptions:
    """Options of `clipcap`.

    Args:
        path: CLIPCap's own file of embeddings and captions.
    """

    path: str | Path

    def __post_init__(self) -> None:
        check_path("path", self.path)


SOURCE_OPTIONS: dict[str, type] = {
    "manifest": ManifestOptions,
    "coco_captions": CocoCaptionsOptions,
    "visual_genome": VisualGenomeOptions,
    "phrasecut": PhraseCutSourceOptions,
    "webdataset": WebDatasetOptions,
    "clipcap": ClipCapPairsOptions,
}
"""The options of each source of ``training.data.SOURCES`` and ``PAIR_SOURCES``."""


def read_source_options(name: str, options: Mapping[str, Any]) -> Any:
    """The options of a source, checked.

    Raises:
        InputError: an option that there is not (lists those there are), one that is needed and not
            given, or one of another type.
    """
    kind = SOURCE_OPTIONS[name]
    known = {field.name: field for field in fields(kind)}
    for option in options:
        if option not in known:
            raise InputError(
                f"data.options.{option}: not an option of the source {name}, which has"
                f" {', '.join(known)}"
            )
    for option, field in known.items():
        if field.default is MISSING and options.get(option) is None:
            raise InputError(f"data.options.{option}: the source {name} needs it")
    try:
        return kind(**options)
    except InputError as error:
        raise InputError(f"data.options.{error}") from error
