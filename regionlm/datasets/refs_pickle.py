"""Read the `refs(...).p` files of RefCOCO, which are pickles, without running code from them.

They contain only lists, dictionaries, numbers and texts. A pickle needs the name of a class or
function to do anything else, so every name is refused.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any, NamedTuple

from regionlm.datasets.data_errors import DataError


class Sentence(NamedTuple):
    """A sentence that a person wrote. raw: as typed; sent: cleaned by the authors."""

    id: int
    raw: str
    sent: str


class Ref(NamedTuple):
    """An annotated object and the sentences that refer to it."""

    id: int
    ann_id: int
    image_id: int
    split: str
    sentences: tuple[Sentence, ...]


def read_refs(file: Path) -> list[Ref]:
    """Read a `refs(unc).p` in file order.

    Raises DataError: it names a class or function (nothing is run), is damaged, or contains
    anything but references.
    """
    found = _load(file)
    try:
        return [_ref(item) for item in found]
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{file}: expected a list of references with ref_id, ann_id, image_id, split and "
            f"sentences; {type(error).__name__}: {error}: fetch refs(unc).p again"
        ) from error


def _ref(item: dict[str, Any]) -> Ref:
    sentences = (Sentence(s["sent_id"], s["raw"], s["sent"]) for s in item["sentences"])
    numbers = item["ref_id"], item["ann_id"], item["image_id"]
    return Ref(*numbers, item["split"], tuple(sentences))


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def _load(file: Path) -> Any:
    data = file.read_bytes()
    try:
        # Written by Python 2, whose plain strings are bytes, in all known files ASCII.
        try:
            return _PlainUnpickler(io.BytesIO(data)).load()
        except UnicodeDecodeError:
            return _PlainUnpickler(io.BytesIO(data), encoding="latin1").load()
    except Exception as error:  # damaged pickles raise a dozen types
        raise DataError(
            f"{file}: expected a pickle of plain lists, dictionaries, numbers and texts, which "
            f"this is not ({error}); no code from it was run: fetch it again, from a source you "
            "trust"
        ) from error
