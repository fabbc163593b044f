"""The options of all sources of examples, one class for each.

Nothing here may import torch, so that options can be listed and checked before it is loaded.
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
    """Base class of the options of all sources.

    Raises:
        InputError: an option has the wrong type.
    """

    error: ClassVar[type[InputError]] = InputError
    section: ClassVar[str] = "data.options."


@dataclass(frozen=True, kw_only=True)
class ManifestOptions(SourceOptions):
    """Options of `manifest`.

    Args:
        path: JSON lines file.
    """

    path: AnyPath


@dataclass(frozen=True, kw_only=True)
class CocoCaptionsOptions(SourceOptions):
    """Options of `coco_captions`.

    Args:
        annotations: A file such as `captions_train2014.json`.
        images: Folder of the images.
    """

    annotations: AnyPath
    images: AnyPath


@dataclass(frozen=True, kw_only=True)
class VisualGenomeOptions(SourceOptions):
    """Options of `visual_genome`.

    Args:
        root: Folder of `region_descriptions.json`.
        images: Folder of VG_100K and VG_100K_2; by default root.
    """

    root: AnyPath
    images: AnyPath | None = None


@dataclass(frozen=True, kw_only=True)
class PhraseCutSourceOptions(SourceOptions):
    """Options of `phrasecut`; see `regionlm.datasets.phrasecut`.

    Args:
        root: Folder of `refer_*.json` and `image_data_split.json`.
        split: train, val, miniv or test, or several joined by "_".
        images: Folder of the images; by default root.
    """

    root: AnyPath
    split: Annotated[str, Described("the name of a split")] = "train"
    images: AnyPath | None = None


@dataclass(frozen=True, kw_only=True)
class WebDatasetOptions(SourceOptions):
    """Options of `webdataset`.

    Args:
        shards: Paths; patterns with ``*``, whose files are sorted by name; or names with braces,
            ``{000..003}`` or ``{a,b}``, all of which must exist.
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
    """Check the options of a source.

    Raises:
        InputError: an option is unknown (the message lists all), missing, or of another type.
    """
    return SOURCE_OPTIONS[name].read(options, f"the source {name}")
