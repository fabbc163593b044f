"""Sources of examples by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from training.data.caption_manifest import CaptionManifest
from training.data.clipcap import clipcap_pairs
from training.data.coco_captions import CocoCaptions
from training.data.example import Source
from training.data.pairs import Pairs
from training.data.phrasecut_examples import PhraseCutExamples
from training.data.source_options import read_source_options
from training.data.visual_genome import VisualGenome
from training.data.webdataset import WebDataset

SOURCES: dict[str, Callable[..., Source]] = {
    "manifest": CaptionManifest,
    "coco_captions": CocoCaptions,
    "visual_genome": VisualGenome,
    "phrasecut": PhraseCutExamples,
    "webdataset": WebDataset,
}
"""The values of `data.source` in a training config; see `SOURCE_OPTIONS` for their options."""

PAIR_SOURCES: dict[str, Callable[..., Pairs]] = {"clipcap": clipcap_pairs}
"""Sources that have embeddings already."""


def open_source(name: str, options: Mapping[str, Any], *, skip_bad: bool = False) -> Source:
    """Open a source by its name in ``SOURCES``.

    Raises:
        InputError: an option is unknown (the message lists all) or missing, or files can't be used.
    """
    return SOURCES[name](read_source_options(name, options), skip_bad=skip_bad)


def open_pair_source(
    name: str, options: Mapping[str, Any], *, dim: int, limit: int | None, skip_bad: bool
) -> Pairs:
    """Open a source by its name in ``PAIR_SOURCES``; see `clipcap_pairs` for the arguments.

    Raises:
        InputError: as in `open_source`.
    """
    chosen = read_source_options(name, options)
    return PAIR_SOURCES[name](chosen, dim=dim, limit=limit, skip_bad=skip_bad)
