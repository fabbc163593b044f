"""The hierarchy of Open Images' classes, from ``bbox_labels_600_hierarchy.json``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from regionlm.datasets.data_errors import DataError


def read_relatives(file: Path, mids: Sequence[str]) -> tuple[frozenset[int], ...]:
    """Return, for each class, those that it is a kind of and those that are kinds of it.

    Of the tree's two relations only "Subcategory" counts: the "Part" of a thing is not that thing.

    mids: ids of the classes, in the order of their labels.

    Raises DataError: damaged, or another file.
    """
    try:
        tree = json.loads(file.read_text(encoding="utf-8-sig"))
        pairs = set(_kinds(tree, ()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{file}: expected a tree of LabelName and Subcategory; fetch it again"
            f" ({type(error).__name__}: {error})"
        ) from error
    label_of = {mid: label for label, mid in enumerate(mids)}
    found: list[set[int]] = [set() for _ in mids]
    for upper, lower in pairs:
        if upper != lower and upper in label_of and lower in label_of:
            found[label_of[upper]].add(label_of[lower])
            found[label_of[lower]].add(label_of[upper])
    if not any(found):
        raise DataError(f"{file}: relates no two of the {len(mids)} classes; it is the wrong file")
    return tuple(frozenset(labels) for labels in found)


def _kinds(node: dict[str, Any], above: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield pairs of a class and a kind of it. Parts start anew, since they have kinds, too."""
    name = node["LabelName"]
    yield from ((upper, name) for upper in above)
    for child in node.get("Subcategory", ()):
        yield from _kinds(child, (*above, name))
    for part in node.get("Part", ()):
        yield from _kinds(part, ())
