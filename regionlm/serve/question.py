"""What the engine is asked, and the future of its answer."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from regionlm.inputs.masks import Region
from regionlm.inputs.views import ImageView

Kind = Literal["caption", "match", "embed", "explain", "encode"]


@dataclass(frozen=True)
class Piece:
    """A part of a region's caption, as it is written."""

    index: int
    """Of the region, in the order of the question."""
    region: str
    """Its name."""
    text: str


@dataclass(eq=False)
class Question:
    """A question about one image, for `Engine.ask`, `Engine.stream` or `Engine.submit`.

    Args:
        kind: which method of the Python API answers it.
        view: the image: `Engine.view` makes one of a file's bytes.
        regions: of the image; none for `encode`, and for an `explain` with texts only.
        texts: of `match` and `explain`.
        options: keyword arguments of the method: ``embedder``, ``steps``, ``decoding``, ...
        heard: called on the engine's thread with each piece of a `caption`, as it is written.
        deadline: when it is too late, by `time.monotonic`; None: the engine's limit from now on.
    """

    kind: Kind
    view: ImageView
    regions: Sequence[Region] = ()
    texts: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    heard: Callable[[Piece], None] | None = None
    deadline: float | None = None
    future: Future[Any] = field(default_factory=Future)
    """Its answer: what the method returns."""
    is_gone: bool = False
    """Nobody waits for the answer any more."""
    has_spoken: bool = False
    """Pieces were heard, so it can't be begun again."""
    identity: str | None = field(init=False)
    """Equal for questions with the same answer; None: asked again, it may have another one."""

    def __post_init__(self) -> None:
        self.identity = _identity(self)

    @property
    def key(self) -> str:
        """Equal for questions that can be worked together."""
        options = json.dumps(self.options, sort_keys=True, default=id)
        apart = id(self) if isinstance(self.options.get("seed"), list | tuple) else ""
        return f"{self.kind} {options} {apart}"

    @property
    def nbytes(self) -> int:
        """Memory of the picture and the masks."""
        width, height = self.view.size
        return width * height * (3 + len(self.regions))

    def seconds_left(self) -> float:
        """Until its deadline; at least 0."""
        return max(0.0, (self.deadline or 0) - time.monotonic())

    def say(self, index: int, text: str) -> None:
        """Let a piece of a region's caption be heard."""
        if self.heard is not None and not self.is_gone:
            self.has_spoken = True
            self.heard(Piece(index, self.regions[index].name, text))

    def leave(self) -> None:
        """Give up waiting: it leaves the queue, or its pieces are written no further."""
        self.is_gone = True
        self.future.cancel()


def _identity(question: Question) -> str | None:
    """A digest of all that decides an answer, but for what is in the view."""
    options = question.options
    is_random = options.get("decoding") == "sample" and options.get("seed") is None
    if is_random or question.kind == "encode":
        return None
    names = [region.name for region in question.regions]
    asked = [question.kind, id(question.view), names, list(question.texts), dict(options)]
    try:
        found = hashlib.sha256(json.dumps(asked, sort_keys=True).encode())
    except TypeError:  # an embedder that is no name, or numbers of NumPy's
        return None
    for region in question.regions:
        found.update(np.packbits(region.mask).tobytes())
    return found.hexdigest()
