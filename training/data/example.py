"""An image with captioned regions, which is what all sources return."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from PIL import Image

from regionlm.errors import InputError

MAX_CHARACTERS = 10_000  # of a caption; a longer one is a file pasted into a field


@dataclass(frozen=True, eq=False)
class Example:
    """One image.

    image: RGB. masks: bool ``[M, H, W]``, each with at least one pixel; None stands for the whole
    image. texts: at least one caption for each mask, or for the whole image. bad: why parts were
    left out, one line each. place: where the example is from, for messages.
    """

    image: Image.Image
    masks: np.ndarray | None
    texts: list[list[str]]
    bad: list[str] = field(default_factory=list)
    place: str = ""


class Source(Protocol):
    """Examples by number, decoded when they are read; several threads may read at the same time.

    Reading an example that can't be used raises InputError. With ``skip_bad``, an example comes
    without those of its parts that can't be used.
    """

    def __len__(self) -> int:
        """Number of images."""
        ...

    def __getitem__(self, index: int) -> Example:
        """Decode an example."""
        ...

    @property
    def key(self) -> dict[str, Any]:
        """JSON values on which the examples depend, except the bytes of the images."""
        ...


class Parts:
    """Collects the regions of one example.

    place: where the example is from, such as "a.jsonl, line 3". skip_bad: note why a part can't be
    used and continue, instead of raising InputError.
    """

    def __init__(self, place: str, skip_bad: bool) -> None:
        self.place, self.skip_bad = place, skip_bad
        self._whole = place  # sources change `place` to name single parts
        self.bad: list[str] = []
        self._masks: list[np.ndarray] = []
        self._texts: list[list[str]] = []

    @contextmanager
    def checked(self) -> Iterator[None]:
        """Add the place to an InputError raised inside, or note the error and continue."""
        try:
            yield
        except InputError as error:
            if not self.skip_bad:
                raise InputError(f"{self.place}: {error}") from error
            self.bad.append(f"{self.place}: {error}")

    def texts(self, values: list[Any]) -> list[str]:
        """The captions that can be used, without surrounding blanks."""
        found: list[str] = []
        for value in values:
            with self.checked():
                found.append(check_text(value).strip())
        return found

    def add(self, mask: np.ndarray, texts: list[str]) -> None:
        """Add a region, unless it has no captions."""
        if texts:
            self._masks.append(mask)
            self._texts.append(texts)

    def example(self, image: Image.Image) -> Example:
        """The example with the added regions. Raises InputError: there are none."""
        self.check_any(self._texts)
        return Example(image, np.stack(self._masks), self._texts, self.bad, self._whole)

    def whole(self, image: Image.Image, texts: list[str]) -> Example:
        """The example without regions. Raises InputError: it has no texts."""
        self.check_any(texts)
        return Example(image, None, [texts], self.bad, self._whole)

    def check_any(self, found: list[Any]) -> None:
        """Raise InputError if nothing is left."""
        if not found:
            raise InputError(self.bad[0] if self.bad else f"{self.place}: expected a caption")


def check_text(value: Any) -> str:
    """Return a caption unchanged. Raises InputError: not text, blank, too long, or not Unicode."""
    if not isinstance(value, str):
        raise InputError(f"caption: expected text, found {str(value)[:40]!r}")
    if not value.strip():
        raise InputError("caption: expected words, found none")
    if len(value) > MAX_CHARACTERS:
        raise InputError(
            f"caption: expected at most {MAX_CHARACTERS:,} characters, found {len(value):,}"
        )
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"caption: expected Unicode text, found half a surrogate pair at {error.start}"
        ) from error
    return value
