"""Sources of examples by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from regionlm.errors import InputError
from training.data.clipcap import clipcap_pairs
from training.data.coco import CocoCaptions
from training.data.example import Example, Source
from training.data.manifest import CaptionManifest
from training.data.pairs import Pairs
from training.data.phrasecut import PhraseCutExamples
from training.data.visual_genome import VisualGenome
from training.data.webdataset import WebDataset

SOURCES: dict[str, Callable[..., Source]] = {
    "manifest": CaptionManifest,
    "coco_captions": CocoCaptions,
    "visual_genome": VisualGenome,
    "phrasecut": PhraseCutExamples,
    "webdataset": WebDataset,
}
"""What `data.source` of a training config names; options are those of the class."""

PAIR_SOURCES: dict[str, Callable[..., Pairs]] = {"clipcap": clipcap_pairs}
"""Sources that bring their embeddings."""


def open_source(name: str, options: Mapping[str, Any], *, skip_bad: bool = False) -> Source:
    """A source by its name in ``SOURCES``.

    Raises:
        InputError: unknown name or option (lists those there are), or files that can't be used.
    """
    make = SOURCES[name]
    check_options(name, make, options)
    return make(**options, skip_bad=skip_bad)


def open_pair_source(
    name: str, options: Mapping[str, Any], *, dim: int, limit: int | None, skip_bad: bool
) -> Pairs:
    """The pairs of a source by its name in ``PAIR_SOURCES``; arguments as `clipcap_pairs` has them.

    Raises:
        InputError: an unknown option, or a file that can't be used.
    """
    make = PAIR_SOURCES[name]
    check_options(name, make, options)
    return make(**options, dim=dim, limit=limit, skip_bad=skip_bad)


def check_options(name: str, make: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Raise InputError unless these are options of a source."""
    taken = ("skip_bad", "dim", "limit")
    known = {n: p for n, p in inspect.signature(make).parameters.items() if n not in taken}
    for option in options:
        if option not in known:
            raise InputError(
                f"data.options.{option}: not an option of the source {name}, which has"
                f" {', '.join(known)}"
            )
    for option, parameter in known.items():
        if parameter.default is inspect.Parameter.empty and options.get(option) is None:
            raise InputError(f"data.options.{option}: the source {name} needs it")


__all__ = ["PAIR_SOURCES", "SOURCES", "Example", "Source", "open_pair_source", "open_source"]
