"""What is to be done, and what does it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from regionlm.bulk.items import Pictures
from regionlm.bulk.output import Summary
from regionlm.bulk.request import Request
from regionlm.distributed.journal import Journal


@dataclass(frozen=True)
class Work:
    """Lines to caption.

    pictures: the lines with their images. request: what writes the captions, and how. journal:
    where they are stored. progress: show a progress bar on stderr.
    """

    pictures: Pictures
    request: Request
    journal: Journal
    progress: bool


class Machines(Protocol):
    """Processes on which captions are made."""

    def caption(self, work: Work, finish: Callable[[float], Summary]) -> Summary:
        """Caption the lines that the journal lacks.

        Args:
            work: the lines.
            finish: called in one process when the journal is complete, with the time at which the
                models were loaded, by `time.monotonic`.

        Raises:
            InputError, ModelError, PrefixModelError: a line, file or option that can't be used.
            KeyboardInterrupt: SIGINT or SIGTERM. What is finished is kept.
        """
        ...
