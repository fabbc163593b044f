"""The bundled benchmark: composed scenes of pictograms, in PhraseCut's format."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from regionlm.datasets.data_errors import DataError
from regionlm.datasets.dataset_options import MiniOptions
from regionlm.datasets.phrasecut import PhraseCut
from regionlm.datasets.sample import Sample

FOLDER = Path(__file__).with_name("mini_benchmark")
_CLASSES = "classes.json"


def in_held_out_style(number: int) -> bool:
    """Whether the scene with this number has the style that the bundled model never saw."""
    return number % 6 == 5


class Mini(PhraseCut):
    """Samples like PhraseCut's, with a class for each region, such as "a fox"."""

    name = MiniOptions.dataset
    _download: ClassVar[str] = (
        "none, it ships with regionlm: leave out data.root, or copy the folder"
        " regionlm/datasets/mini_benchmark"
    )
    _also: ClassVar[tuple[str, ...]] = (_CLASSES,)

    def __init__(
        self,
        root: str | Path | None = None,
        split: str = MiniOptions.default_split,
        *,
        allow_missing: bool = False,
        **options: Any,
    ) -> None:
        """Open the benchmark.

        root: folder of a copy; None takes the one that ships with the package.
        allow_missing: report an image whose file is missing when it is read, not now.
        options: fields of `MiniOptions`.

        Raises DataError: bad option, missing or damaged files.
        """
        style = MiniOptions(**options).style
        home = Path(root or FOLDER)
        super().__init__(home, split, allow_missing=allow_missing)
        try:
            phrases = dict(json.loads((home / _CLASSES).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise DataError(
                f"{home / _CLASSES}: expected names and phrases of classes ({error}): copy"
                " regionlm/datasets/mini_benchmark again"
            ) from error
        self._names = tuple(phrases)
        self.classes = tuple(phrases.values())
        if style != "all":
            wanted = style == "held_out"
            of_style = (
                row for row in self._rows if in_held_out_style(int(self._ids[row])) == wanted
            )
            self._rows = tuple(of_style)

    def _check(self, wanted: Sequence[int], parts: Sequence[str]) -> None:
        """Check nothing: there are no published counts."""

    def _load(self, row: int) -> Sample:
        sample = super()._load(row)
        tasks = self._tasks.of_image(int(self._ids[row]))
        names = {task["task_id"]: task["phrase_structure"]["name"] for task in tasks}
        labels = tuple(self._names.index(names[mask]) for mask in sample.mask_ids)
        return replace(sample, labels=labels)
