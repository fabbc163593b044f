"""What every dataset can be told: one class each, read by the registry and the paper's table.

Nothing heavy may be imported here, so that options can be listed and checked before torch is
loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from regionlm.datasets.data_errors import DataError, within
from regionlm.inputs.numbers import check_choice, check_flag, check_path

ClassNames = Literal["spelled", "raw"]
ContextForm = Literal["auto", "png", "mat", "detail"]
RefText = Literal["raw", "sent"]
MiniStyle = Literal["all", "seen", "held_out"]


@dataclass(frozen=True, kw_only=True)
class DatasetOptions:
    """What is known of every dataset besides its options, which are the fields.

    Raises:
        DataError: an option of another type, or none of its values; so for all classes here.
    """

    dataset: ClassVar[str]
    default_split: ClassVar[str]
    """The one that the MaskInversion paper most likely reports."""
    ships: ClassVar[bool] = False
    """Whether it is part of the package, so that no folder need be given."""


@dataclass(frozen=True, kw_only=True)
class PhraseCutOptions(DatasetOptions):
    """Options of `phrasecut`.

    Args:
        images: Folder of the images, if not the dataset's. Both may hold them in `images/`,
            `VG_100K/` and `VG_100K_2/`, in one or all.
    """

    dataset: ClassVar[str] = "phrasecut"
    default_split: ClassVar[str] = "val"

    images: str | Path | None = None

    def __post_init__(self) -> None:
        _check(self, "images", check_path)


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
    images: str | Path | None = None
    include_crowd: bool = False

    def __post_init__(self) -> None:
        _check(self, "text", check_choice, choices=get_args(RefText))
        _check(self, "images", check_path)
        _check(self, "include_crowd", check_flag)


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
    drop_classes: Sequence[str] = ()

    def __post_init__(self) -> None:
        _check(self, "names", check_choice, choices=get_args(ClassNames))
        if isinstance(self.drop_classes, str) or not isinstance(self.drop_classes, Sequence):
            raise DataError(
                f"{self.dataset}: expected drop_classes to be a list of names; found"
                f" {self.drop_classes!r}"
            )


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

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self, "form", check_choice, choices=get_args(ContextForm))


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

    images: str | Path | None = None
    include_crowd: bool = False

    def __post_init__(self) -> None:
        _check(self, "images", check_path)
        _check(self, "include_crowd", check_flag)


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

    images: str | Path | None = None
    hierarchy: str | Path | None = None

    def __post_init__(self) -> None:
        _check(self, "images", check_path)
        _check(self, "hierarchy", check_path)


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

    def __post_init__(self) -> None:
        _check(self, "style", check_choice, choices=get_args(MiniStyle))


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
    with within("dataset"):
        check_choice("name", name, tuple(DATASET_OPTIONS))
    kind = DATASET_OPTIONS[name]
    if root is None and not kind.ships:
        raise DataError(f"data.root: expected the folder of {name}, found nothing; give it")
    known = sorted(field.name for field in fields(kind))
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise DataError(f"{name}: expected options among {', '.join(known)}; found {unknown[0]!r}")
    kind(**options)


def _check(options: DatasetOptions, name: str, check: Callable[..., Any], **bounds: Any) -> None:
    """Check a field; None may stand where it is the default."""
    value = getattr(options, name)
    if value is None and getattr(type(options), name) is None:
        return
    with within(options.dataset):
        check(name, value, **bounds)
