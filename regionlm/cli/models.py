"""`regionlm models`: which models there are, and where their files are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regionlm.cli.options import Listing
from regionlm.cli.printing import print_json
from regionlm.errors import InputError

if TYPE_CHECKING:
    from regionlm.pretrained.listed_model import ListedModel

_HEADS = ("name", "kind", "dim", "patch", "input", "pooling", "parameters", "files")


def models(asked: Listing) -> None:
    """List models: those on this machine and the presets, or all that fit a name.

    Nothing is loaded or downloaded. A bundle or preset captions, matches, embeds and explains; a
    LLaVA only captions; a CLIP does the rest.
    """
    from regionlm.pretrained.listing import fits, list_models

    found = list_models(*asked.name, everything=asked.all)
    unknown = [name for name in asked.name if not any(fits(one.name, name) for one in found)]
    if unknown:
        raise InputError(
            f"no model's name has {' or '.join(map(repr, unknown))} in it; regionlm models --all"
            " lists all"
        )
    if asked.json:
        print_json({"models": [one.to_dict() for one in found]})
        return
    rows = [_HEADS, *map(_row, found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def _row(model: ListedModel) -> tuple[str, ...]:
    facts = model.facts
    files = "not on this machine" if model.files is None else str(model.files)
    return (
        model.name,
        model.kind,
        str(facts.dim or "-"),
        _pixels(facts.patch),
        _pixels(facts.size),
        facts.pooling or "-",
        _rounded(facts.parameters),
        files if model.problem is None else f"can't be used: {model.problem}",
    )


def _pixels(size: tuple[int, int] | None) -> str:
    """One number for a square."""
    if size is None:
        return "-"
    return str(size[0]) if size[0] == size[1] else f"{size[0]}x{size[1]}"


def _rounded(count: int | None) -> str:
    if count is None:
        return "-"
    return (
        f"{count / 1e9:.1f} G" if count >= 1e9 else f"{count / 1e6:.{1 if count < 1e7 else 0}f} M"
    )
