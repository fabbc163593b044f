"""What every dataset can be told: one class each, read by the registry and the paper's table.

Nothing heavy may be imported here, so that options can be listed and checked before torch is
loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from prefix_models.checks import AnyPath, Checked, Words, check_choice
from regionlm.datasets.data_errors import DataError

ClassNames = Literal["spelled", "raw"]
ClassList = Annotated[Sequence[str], Words("a list of names")]
ContextForm = Literal["auto", "png", "mat", "detail"]
RefText = Literal["raw", "sent"]
MiniStyle = Literal["all", "seen", "held_out"]


@dataclass(frozen=True, kw_only=True)
class DatasetOptions(Checked):
    """What is known of every dataset besides its options, which are the fields.

    Raises:
        DataError: an option of another type, or none of its values; so for all classes here.
    """

    error: ClassVar = DataError

    dataset: ClassVar[str]
    default_split: ClassVar[str]
    """The one that the MaskInversion paper most likely reports."""
    ships: ClassVar[bool] = False
    """Whether it is part of the package, so that no folder need be given."""

    def __init_subclass__(cls) -> None:
        cls.section = f"{cls.dataset}: "


@dataclass(frozen=True, kw_only=True)
class PhraseCutOptions(DatasetOptions):
    """Options of `phrasecut`.

    Args:
        images: Folder of the images, if not the dataset's. Both may hold them in `images/`,
            `VG_100K/` and `VG_100K_2/`, in one or all.
    """

    dataset: ClassVar[str] = "phrasecut"
    default_split: ClassVar[str] = "val"

    images: AnyPath | None = None


@dataclass(frozen=True, kw_only=True)
class RefCocoOptions(DatasetOptions):
    """Options of `refcoco`.

    Args:
        text: "raw", what was typed, in lower case; or "sent", cleaned by the authors.
        split_by: "unc", or another author of a `refs(...).p`.
        images: Folder of the images, if not the dataset's: `train2014/` in it, in `images/`, or
            where the official tools have it; or COCO's 2017 images, which have the same numbers.
        include_crowd: Crowds (iscrowd 1) are candidates, too. No sentence refers to one.
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
        drop_classes: ClassNames of classes to leave out, as candidates and as masks.
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
            `trainval/ID.mat`; "detail", `trainval_merged.json` of PASCAL in Detail; "auto", the
            first of these that is there.
        names: "spelled" ("potted plant") or "raw" ("pottedplant").
        drop_classes: ClassNames of classes to leave out, as candidates and as masks.
    """

    dataset: ClassVar[str] = "context59"

    form: ContextForm = "auto"


@dataclass(frozen=True, kw_only=True)
class CocoOptions(DatasetOptions):
    """Options of `coco`.

    Args:
        images: Folder that holds the images, or `SPLIT/` or `images/SPLIT/`; the dataset's by
            default.
        include_crowd: Give the masks of crowds (iscrowd 1), too.
    """

    dataset: ClassVar[str] = "coco"
    default_split: ClassVar[str] = "val2017"

    images: AnyPath | None = None
    include_crowd: bool = False


@dataclass(frozen=True, kw_only=True)
class OpenImagesOptions(DatasetOptions):
    """Options of `openimages`.

    Args:
        images: Folder of the images, or of `SPLIT/`; the dataset's by default.
        hierarchy: Which classes are kinds of others; by default `bbox_labels_600_hierarchy.json`
            beside the annotations. Without it classes have no `relatives`.
    """

    dataset: ClassVar[str] = "openimages"
    default_split: ClassVar[str] = "validation"

    images: AnyPath | None = None
    hierarchy: AnyPath | None = None


@dataclass(frozen=True, kw_only=True)
class MiniOptions(DatasetOptions):
    """Options of `mini`.

    Args:
        style: "seen", scenes drawn in the styles that the bundled model was trained on; "held_out",
            in the one that it never saw; or "all".
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
    """Raise DataError for a name or option that there is not, a bad value, or a lacking folder."""
    check_choice("data.name", name, DATASET_OPTIONS, DataError)
    kind = DATASET_OPTIONS[name]
    if root is None and not kind.ships:
        raise DataError(f"data.root: expected the folder of {name}, found nothing; give it")
    kind.read(options, "this dataset")
