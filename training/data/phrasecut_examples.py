"""PhraseCut as training data, read by `regionlm.datasets.phrasecut`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from regionlm.datasets.phrasecut import PhraseCut
from regionlm.errors import InputError
from regionlm.pretrained.file_digests import file_digest
from training.data.example import Example, Parts
from training.data.source_options import PhraseCutSourceOptions


class PhraseCutExamples:
    """The images of a split, with the regions of their phrases.

    Raises DataError: the split is unknown, or files are missing or damaged.
    """

    def __init__(self, options: PhraseCutSourceOptions, *, skip_bad: bool = False) -> None:
        self.split, self.skip_bad = options.split, skip_bad
        self.home = Path(options.images or options.root)
        self._data = PhraseCut(
            options.root, options.split, images=options.images, allow_missing=skip_bad
        )
        self._digests = {file.name: file_digest(file) for file in self._data.annotations}

    @property
    def key(self) -> dict[str, Any]:
        """Digests of the annotations, the number of their images, and the folder of these."""
        return {"files": self._digests, "images": str(self.home.resolve()), "count": len(self)}

    def __len__(self) -> int:
        """Number of images."""
        return len(self._data)

    def __getitem__(self, index: int) -> Example:
        """Decode an image. Raises InputError: it can't be read, or a phrase has no region."""
        sample = self._data[index]
        place = f"phrasecut {self.split}, image {sample.id}"
        parts = Parts(place, self.skip_bad)
        for name in sample.dropped:
            with parts.checked():
                raise InputError(f"phrase {name} has no word or covers no pixel")
        said: dict[int, list[str]] = {}
        for name, text, target in zip(sample.text_ids, sample.texts, sample.targets, strict=True):
            parts.place = f"{place}, phrase {name}"
            said.setdefault(target, []).extend(parts.texts([text]))
        for target, texts in said.items():
            parts.add(sample.masks[target], texts)
        return parts.example(sample.image)
