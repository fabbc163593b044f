"""The options of every dataset: a class for each, read by the registry and the paper's table.

Nothing heavy may be imported here, so that options can be listed and checked before torch is
loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from prefix_models.checks import AnyPath, Checked, Described, check_choice
from regionlm.datasets.data_errors import DataError

ClassNames = Literal["spelled", "raw"]
ClassList = Annotated[Sequence[str], Described("a list of names")]
ContextForm = Literal["auto", "png", "mat", "detail"]
RefText = Literal["raw", "sent"]
MiniStyle = Literal["all", "seen", "held_out"]


@dataclass(frozen=True, kw_only=True)
class DatasetOptions(Checked):
    """The base class: its fields are a dataset's options, its class attributes describe it.

    Raises:
        DataError: an option has the wrong type or value; this holds for all classes here.
    """

    error: ClassVar[type[DataError]] = DataError

    dataset: ClassVar[str]
    default_split: ClassVar[str]
    """The split that the MaskInversion paper most likely reports."""
    ships: ClassVar[bool] = False
    """Whether it is part of the package, so that it needs no folder."""

    def __init_subclass__(cls) -> None:
        cls.section = f"{cls.dataset}: "


@dataclass(frozen=True, kw_only=True)
class PhraseCutOptions(DatasetOptions):
    """Options of `phrasecut`.

    Args:
        images: Folder of the images, if not that of the dataset. Images may be in its subfolders
            `images/`, `VG_100K/` and `VG_100K_2/`.
    """

    dataset: ClassVar[str] = "phrasecut"
    default_split: ClassVar[str] = "val"

    images: AnyPath | None = None


@dataclass(frozen=True, kw_only=True)
class RefCocoOptions(DatasetOptions):
    """Options of `refcoco`.

    Args:
        text: "raw", as typed, in lower case; or "sent", cleaned by the authors.
        split_by: "unc", or the author of another `refs(...).p`.
        images: Folder of the images, if not that of the dataset. It has `train2014/` in it, in
            `images/`, or where the official tools have it; or COCO's 2017 images, which have the
            same numbers.
        include_crowd: Whether crowds (iscrowd 1) are candidates, too. No sentence refers to one.
    """

    dataset: ClassVar[str] = "refcoco"
    default_split: ClassVar[str] = "val"

    text: RefText = "raw"
    split_by: str = "unc"
    images: AnyPath | None = None
    include_crowd: bool = False


@dataclass(frozen=True, kw_only=True)
class RefCocoPlusOptions(RefCocoOptions):
    """Options of `refcoco+`: those of `refcoco`."""

    dataset: ClassVar[str] = "refcoco+"


@dataclass(frozen=True, kw_only=True)
class VocOptions(DatasetOptions):
    """Options of `voc2012`.

    Args:
        names: "spelled" ("dining table") or "raw" ("diningtable").
        drop_classes: Names of classes to leave out, as candidates and as masks.
    """

    dataset: ClassVar[str] = "voc2012"
    default_split: ClassVar[str] = "val"

    names: ClassNames = "spelled"
    drop_classes: ClassList = ()


@dataclass(frozen=True, kw_only=True)
class ContextOptions(VocOptions):
    """Options of `context59`.

    Args:
        form: "png", `SegmentationClassContext/ID.png` of mmsegmentation; "mat", the authors'
            `trainval/ID.mat`; "detail", `trainval_merged.json` of PASCAL in Detail; or "auto", the
            first of these that exists.
        names: "spelled" ("potted plant") or "raw" ("pottedplant").
        drop_classes: Names of classes to leave out, as candidates and as masks.
    """

    dataset: ClassVar[str] = "context59"

    form: ContextForm = "auto"


@dataclass(frozen=True, kw_only=True)
class CocoOptions(DatasetOptions):
    """Options of `coco`.

    Args:
        images: Folder of the images, of `SPLIT/` or of `images/SPLIT/`; by default that of the
            dataset.
        include_crowd: Also return the masks of crowds (iscrowd 1).
    """

    dataset: ClassVar[str] = "coco"
    default_split: ClassVar[str] = "val2017"

    images: AnyPath | None = None
    include_crowd: bool = False


@dataclass(frozen=True, kw_only=True)
class OpenImagesOptions(DatasetOptions):
    """Options of `openimages`.

    Args:
        images: Folder of the images or of `SPLIT/`; by default that of the dataset.
        hierarchy: JSON file that says which classes are kinds of others; by default
            `bbox_labels_600_hierarchy.json` beside the annotations. Without it, classes have no
            `relatives`.
    """

    dataset: ClassVar[str] = "openimages"
    default_split: ClassVar[str] = "validation"

    images: AnyPath | None = None
    hierarchy: AnyPath | None = None


@dataclass(frozen=True, kw_only=True)
class MiniOptions(DatasetOptions):
    """Options of `mini`.

    Args:
        style: "seen" for scenes in the drawing styles of the bundled model's training, "held_out"
            for those in a style that it never saw, or "all".
    """

    dataset: ClassVar[str] = "mini"
    default_split: ClassVar[str] = "test"
    ships: ClassVar[bool] = True

    style: MiniStyle = "all"


DATASET_OPTIONS: dict[str, type[DatasetOptions]] = {
    kind.dataset: kind
    for kind in (
        PhraseCutOptions,
        RefCocoOptions,
        RefCocoPlusOptions,
        VocOptions,
        ContextOptions,
        CocoOptions,
        OpenImagesOptions,
        MiniOptions,
    )
}
"""The options of each dataset of ``regionlm.datasets.DATASETS``."""


def check_request(name: str, root: str | Path | None, options: Mapping[str, Any]) -> None:
    """Raise DataError for an unknown name or option, a bad value or a missing folder."""
    check_choice("data.name", name, DATASET_OPTIONS, DataError)
    kind = DATASET_OPTIONS[name]
    if root is None and not kind.ships:
        raise DataError(f"data.root: expected the folder of {name}, found none; add it")
    kind.read(options, "this dataset")
