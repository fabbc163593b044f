"""What every source of examples can be told: one class each, read by the registry.

Nothing heavy may be imported here, so that options can be listed and checked before torch is
loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from prefix_models.checks import AnyPath, Checked, Described
from regionlm.errors import InputError

ShardPaths = Annotated[str | Sequence[str], Described("the path of a file, or a list of some")]


@dataclass(frozen=True, kw_only=True)
class SourceOptions(Checked):
    """What the options of all sources have in common.

    Raises:
        InputError: an option of another type; so for all classes here.
    """

    error: ClassVar[type[InputError]] = InputError
    section: ClassVar[str] = "data.options."


@dataclass(frozen=True, kw_only=True)
class ManifestOptions(SourceOptions):
    """Options of `manifest`.

    Args:
        path: The JSON lines.
    """

    path: AnyPath


@dataclass(frozen=True, kw_only=True)
class CocoCaptionsOptions(SourceOptions):
    """Options of `coco_captions`.

    Args:
        annotations: `captions_train2014.json` or one like it.
        images: Folder of its images.
    """

    annotations: AnyPath
    images: AnyPath


@dataclass(frozen=True, kw_only=True)
class VisualGenomeOptions(SourceOptions):
    """Options of `visual_genome`.

    Args:
        root: Folder of `region_descriptions.json`.
        images: Folder of VG_100K and VG_100K_2, if not root.
    """

    root: AnyPath
    images: AnyPath | None = None


@dataclass(frozen=True, kw_only=True)
class PhraseCutSourceOptions(SourceOptions):
    """Options of `phrasecut`, whose files are read as `regionlm.datasets.phrasecut` does.

    Args:
        root: Folder of `refer_*.json` and `image_data_split.json`.
        split: train, val, miniv or test; joined by "_", several.
        images: Folder of the images, if not root.
    """

    root: AnyPath
    split: Annotated[str, Described("the name of a split")] = "train"
    images: AnyPath | None = None


@dataclass(frozen=True, kw_only=True)
class WebDatasetOptions(SourceOptions):
    """Options of `webdataset`.

    Args:
        shards: Paths, patterns with ``*``, whose files are taken in the order of names, or names
            with braces, ``{000..003}`` or ``{a,b}``, each of which must be there.
    """

    shards: ShardPaths


@dataclass(frozen=True, kw_only=True)
class ClipCapPairsOptions(SourceOptions):
    """Options of `clipcap`.

    Args:
        path: CLIPCap's own file of embeddings and captions.
    """

    path: AnyPath


SOURCE_OPTIONS: dict[str, type[SourceOptions]] = {
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
    return SOURCE_OPTIONS[name].read(options, f"the source {name}")
