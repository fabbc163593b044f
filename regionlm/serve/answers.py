"""Answers to the questions asked last: the same question has the same answer."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import is_dataclass
from threading import Lock
from typing import Any, NamedTuple
from weakref import ref

from regionlm.inputs.views import ImageView, nbytes_of
from regionlm.relevance.explanation import undrawn


class _Kept(NamedTuple):
    view: ref[ImageView]
    answer: Any
    nbytes: int


class AnswersCache:
    """Answers by question, for as long as its view is alive. May be shared by threads.

    On `mini` four fifths of a question are its regions' inversion and the decoding, which a view
    can't keep.

    Args:
        mebibytes: most memory of all answers together, as far as they hold tensors.
    """

    def __init__(self, mebibytes: float) -> None:
        self._most = int(mebibytes * 2**20)
        self._answers: OrderedDict[str, _Kept] = OrderedDict()
        self._lock = Lock()
        self.hits = self.nbytes = 0

    def get(self, identity: str, view: ImageView) -> Any:
        """The answer to a question about a view; None: not known."""
        with self._lock:
            kept = self._answers.get(identity)
            if kept is None or kept.view() is not view:
                return None
            self._answers.move_to_end(identity)
            self.hits += 1
            return _fresh(kept.answer)

    def keep(self, identity: str, view: ImageView, answer: Any) -> None:
        """Keep an answer, and forget those not asked for the longest time."""
        answer = _fresh(answer)
        size = 1024 + nbytes_of(answer)  # and something for names and numbers
        with self._lock:
            self._drop(identity)
            self._answers[identity] = _Kept(ref(view), answer, size)
            self.nbytes += size
            while self.nbytes > self._most:
                self._drop(next(iter(self._answers)))

    def _drop(self, identity: str) -> None:
        kept = self._answers.pop(identity, None)
        self.nbytes -= kept.nbytes if kept else 0


def _fresh(answer: Any) -> Any:
    """A copy without the heatmaps that were drawn of it since."""
    if isinstance(answer, list):
        return [_fresh(one) for one in answer]
    return undrawn(answer) if is_dataclass(answer) else answer
