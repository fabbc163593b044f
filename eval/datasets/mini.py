"""The bundled benchmark: composed scenes of the mini world, in PhraseCut's format."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from eval.datasets.phrasecut import PhraseCut
from eval.datasets.sample import Sample

FOLDER = Path(__file__).parents[1] / "benchmarks" / "mini"


class Mini(PhraseCut):
    """PhraseCut's samples with the class of each region besides: "a fox", "scissors"."""

    def __init__(self, root: str | Path | None = None, split: str = "test") -> None:
        """Open it. root: a copy elsewhere; None: what ships with the package."""
        home = Path(root or FOLDER)
        super().__init__(home, split)
        self.name = "mini"
        phrases = json.loads((home / "classes.json").read_text(encoding="utf-8"))
        self._names = tuple(phrases)
        self.classes = tuple(phrases.values())

    def _check(self, wanted: Sequence[int], parts: Sequence[str]) -> None:
        """Nothing was published that the counts could differ from."""

    def _load(self, row: int) -> Sample:
        sample = super()._load(row)
        tasks = self._tasks.of_image(int(self._ids[row]))
        names = {task["task_id"]: task["phrase_structure"]["name"] for task in tasks}
        labels = tuple(self._names.index(names[mask]) for mask in sample.mask_ids)
        return replace(sample, labels=labels)
