"""An image with its regions and what is said of them: what every source of examples gives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from PIL import Image

from regionlm.errors import InputError

MAX_CHARACTERS = 10_000  # of a caption; more is a file pasted into a field


@dataclass(frozen=True, eq=False)
class Example:
    """One image.

    image: RGB. masks: bool [M, H, W], none without a pixel; None stands for the whole image.
    texts: for each of the M masks (one list for a whole image) at least one caption.
    bad: why parts of it were left out, a line each. place: how messages call it.
    """

    image: Image.Image
    masks: np.ndarray | None
    texts: list[list[str]]
    bad: list[str] = field(default_factory=list)
    place: str = ""


class Source(Protocol):
    """Examples by number, decoded when asked for; several threads read at once.

    An example that can't be used raises InputError. With ``skip_bad`` one whose parts can't all be
    used comes without those.
    """

    def __len__(self) -> int:
        """How many images."""
        ...

    def __getitem__(self, index: int) -> Example:
        """Decode one."""
        ...

    @property
    def key(self) -> dict[str, Any]:
        """JSON values: all that the examples depend on, but for the pictures' own bytes."""
        ...


class Parts:
    """Collects the regions of one example.

    place: how messages call it, such as "a.jsonl, line 3". skip_bad: keep why a part can't be used
    and go on, instead of raising InputError.
    """

    def __init__(self, place: str, skip_bad: bool) -> None:
        self.place, self.skip_bad = place, skip_bad
        self._whole = place  # sources name single parts in `place`
        self.bad: list[str] = []
        self._masks: list[np.ndarray] = []
        self._texts: list[list[str]] = []

    @contextmanager
    def checked(self) -> Iterator[None]:
        """What is done inside raises with the place, or is left out."""
        try:
            yield
        except InputError as error:
            if not self.skip_bad:
                raise InputError(f"{self.place}: {error}") from error
            self.bad.append(f"{self.place}: {error}")

    def texts(self, values: list[Any]) -> list[str]:
        """Those captions that can be used, without blanks around them."""
        found: list[str] = []
        for value in values:
            with self.checked():
                found.append(check_text(value).strip())
        return found

    def add(self, mask: np.ndarray, texts: list[str]) -> None:
        """Take a region; one of which nothing is said is left out."""
        if texts:
            self._masks.append(mask)
            self._texts.append(texts)

    def example(self, image: Image.Image) -> Example:
        """The regions that were added; InputError: none."""
        self.check_any(self._texts)
        return Example(image, np.stack(self._masks), self._texts, self.bad, self._whole)

    def whole(self, image: Image.Image, texts: list[str]) -> Example:
        """An example without regions; InputError: no text."""
        self.check_any(texts)
        return Example(image, None, [texts], self.bad, self._whole)

    def check_any(self, found: list[Any]) -> None:
        """Raise InputError if nothing is left."""
        if not found:
            raise InputError(self.bad[0] if self.bad else f"{self.place}: expected a caption")


def check_text(value: Any) -> str:
    """Return a caption as it is; InputError: no text, blank, over-long, or no valid Unicode."""
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
