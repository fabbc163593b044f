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
"""What `data.source` of a training config names; the options of each are in `SOURCE_OPTIONS`."""

PAIR_SOURCES: dict[str, Callable[..., Pairs]] = {"clipcap": clipcap_pairs}
"""Sources that bring their embeddings."""


def open_source(name: str, options: Mapping[str, Any], *, skip_bad: bool = False) -> Source:
    """A source by its name in ``SOURCES``.

    Raises:
        InputError: unknown name or option (lists those there are), a needed option that is not
            given, or files that can't be used.
    """
    return SOURCES[name](read_source_options(name, options), skip_bad=skip_bad)


def open_pair_source(
    name: str, options: Mapping[str, Any], *, dim: int, limit: int | None, skip_bad: bool
) -> Pairs:
    """The pairs of a source by its name in ``PAIR_SOURCES``; arguments as `clipcap_pairs` has them.

    Raises:
        InputError: as `open_source`.
    """
    chosen = read_source_options(name, options)
    return PAIR_SOURCES[name](chosen, dim=dim, limit=limit, skip_bad=skip_bad)
