"""Which options go together; options without effect are refused before torch is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from regionlm.cli.options import Decoding, Embedding
from regionlm.embedders.options import EMBEDDER_OPTIONS, check_embedder
from regionlm.errors import InputError

_WAYS = {
    "seed": ("sample",),
    "temperature": ("sample", "beam"),
    "top_k": ("sample",),
    "top_p": ("sample",),
    "beam_size": ("beam",),
}


def check_embedding(embedding: Embedding) -> None:
    """Raise InputError for options out of range, or of another embedder than the chosen one."""
    name, own = embedding.embedder, own_options(embedding)
    for option in given(embedding):
        if option != "embedder" and option not in own:
            others = [other for other in EMBEDDER_OPTIONS if option in _names(other)]
            raise InputError(
                f"--{option} is an option of {' and '.join(others)}, not of {name}; leave it out"
            )
    check_embedder(name, own)


def own_options(embedding: Embedding) -> dict[str, Any]:
    """The options of the chosen embedder that are not null."""
    values = {name: getattr(embedding, name) for name in _names(embedding.embedder)}
    return {name: value for name, value in values.items() if value is not None}


def _names(embedder: str) -> list[str]:
    return [one.name for one in fields(EMBEDDER_OPTIONS[embedder])]


def check_decoding(decoding: Decoding) -> None:
    """Raise InputError for options that the chosen way of decoding ignores."""
    for option in given(decoding):
        ways = _WAYS.get(option, (decoding.decoding,))
        if decoding.decoding not in ways:
            fit = " or ".join(ways)
            why = f"goes with --decoding {fit}, not {decoding.decoding}; choose {fit}"
            refuse([option], why)


def given(part: Any) -> list[str]:
    """Names of the options of a part that differ from their default."""
    default = type(part)()
    return [f.name for f in fields(part) if getattr(part, f.name) != getattr(default, f.name)]


def refuse(options: Sequence[str], why: str) -> None:
    """Raise InputError about the first of some options, if there are any."""
    if options:
        raise InputError(f"--{options[0]} {why}, or leave it out")
