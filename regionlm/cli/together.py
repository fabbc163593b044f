"""Which options go together; those without effect are refused, before torch is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from regionlm.cli.options import Decoding, Embedding
from regionlm.errors import InputError

_WAYS = {"seed": ("sample",), "temperature": ("sample", "beam"), "beam_size": ("beam",)}


def check_embedding(embedding: Embedding) -> None:
    """Raise InputError for options that are not the chosen embedder's."""
    name, own = embedding.embedder, ("steps", "lr", "alpha")
    if name != "maskinversion":
        for option in own:
            if getattr(embedding, option) is not None:
                raise InputError(
                    f"--{option}: an option of maskinversion, not of {name}; leave it out"
                )
    if (name == "alphaclip") != (embedding.alphaclip_checkpoint is not None):
        raise InputError(
            "--embedder alphaclip and --alphaclip_checkpoint FILE need each other; found"
            f" {'no checkpoint' if name == 'alphaclip' else f'the embedder {name}'}"
        )


def check_decoding(decoding: Decoding) -> None:
    """Raise InputError for options that the chosen way of decoding does not look at."""
    for option in given(decoding):
        ways = _WAYS.get(option, (decoding.decoding,))
        if decoding.decoding not in ways:
            refuse([option], f"goes with --decoding {' or '.join(ways)}, not {decoding.decoding}")


def given(part: Any) -> list[str]:
    """Names of the options of a part that are not at their default."""
    default = type(part)()
    return [f.name for f in fields(part) if getattr(part, f.name) != getattr(default, f.name)]


def refuse(options: Sequence[str], why: str) -> None:
    """Raise InputError, which names the first of some options, if there is any."""
    if options:
        raise InputError(f"--{options[0]} {why}; or leave it out")
