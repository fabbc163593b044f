"""Tiny datasets in the formats of the real ones, with the traps that those have.

Use the fixture `build`: `build.phrasecut()` writes one and returns the folder to open.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.builders.coco import ANNOTATIONS, REFS, annotation, coco, ref, refcoco
from tests.builders.files import block, compressed, flat, photo, rectangle, run_lengths, write
from tests.builders.openimages import OPEN_MASKS, openimages
from tests.builders.pascal import context, context_numbers, detail, save_palette, voc, voc_numbers
from tests.builders.phrasecut import TASKS, phrasecut, task


class Builder:
    """Writes each dataset into a folder of its own; has the parts to write others, too."""

    tasks, annotations, refs, open_masks = TASKS, ANNOTATIONS, REFS, OPEN_MASKS
    task, annotation, ref = staticmethod(task), staticmethod(annotation), staticmethod(ref)
    block, rectangle, flat = staticmethod(block), staticmethod(rectangle), staticmethod(flat)
    compressed, run_lengths = staticmethod(compressed), staticmethod(run_lengths)
    photo, write, save_palette = (
        staticmethod(photo),
        staticmethod(write),
        staticmethod(save_palette),
    )
    voc_numbers, context_numbers = staticmethod(voc_numbers), staticmethod(context_numbers)

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _root(self, name: str) -> Path:
        (self._folder / name).mkdir(exist_ok=True)
        return self._folder / name

    def phrasecut(self, **options: Any) -> Path:
        return phrasecut(self._root("phrasecut"), **options)

    def coco(self, **options: Any) -> Path:
        return coco(self._root("coco"), **options)

    def refcoco(self, **options: Any) -> Path:
        return refcoco(self._root("refcoco_data"), **options)

    def voc(self, **options: Any) -> Path:
        return voc(self._root("voc"), **options)

    def context(self, form: str, classes: dict[int, str]) -> Path:
        root = self._root(f"context_{form}")
        return detail(root, classes) if form == "detail" else context(root, form, list(classes))

    def openimages(self, **options: Any) -> Path:
        return openimages(self._root("openimages"), **options)


@pytest.fixture
def build(tmp_path: Path) -> Builder:
    return Builder(tmp_path)
