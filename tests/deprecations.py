"""Deprecation warnings that our own calls cause, whichever library speaks them.

The calls between libraries are theirs to mend; ours are errors here, before a release turns them
into failures of our users.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

OURS = ("regionlm", "prefix_models", "training", "eval", "tests", "benchmarks")
KINDS = (DeprecationWarning, PendingDeprecationWarning, FutureWarning)
# Between a caller and what it calls these stand for neither.
TRANSPARENT = ("torch", "functools", "contextlib", "warnings", "logging", "abc", "typing")
# Libraries that log what is deprecated instead of warning.
LOGGING = ("transformers", "peft", "lightning", "open_clip", "jsonargparse", "huggingface_hub")


def caller(frame: FrameType | None) -> str:
    """Top-level module that called into the library which speaks at `frame`."""
    speaker = None
    while frame is not None:
        name = frame.f_globals.get("__name__", "").partition(".")[0]
        if speaker is None or name == speaker or name in TRANSPARENT:
            speaker = speaker or name
            frame = frame.f_back
            continue
        return name
    return speaker or ""


@contextmanager
def recorded() -> Iterator[list[str]]:
    """Give the list of what is deprecated and called by us, as it grows."""
    found: list[str] = []
    warn = warnings.warn

    def spying(message: Any, category: Any = None, stacklevel: int = 1, **others: Any) -> None:
        kind = type(message) if isinstance(message, Warning) else category or UserWarning
        if issubclass(kind, KINDS) and caller(sys._getframe(1)) in OURS:
            found.append(f"{kind.__name__}: {message}")
        warn(message, category, stacklevel + 1, **others)

    class Spy(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = record.getMessage()
            if "deprecat" in text.lower() and caller(_speaking(record)) in OURS:
                found.append(f"{record.name}: {text}")

    spy = Spy(logging.WARNING)
    loggers = [logging.getLogger(name) for name in LOGGING]
    warnings.warn = spying  # type: ignore[assignment]
    for logger in loggers:
        logger.addHandler(spy)
    try:
        yield found
    finally:
        warnings.warn = warn
        for logger in loggers:
            logger.removeHandler(spy)


def _speaking(record: logging.LogRecord) -> FrameType | None:
    """The frame that logs a record."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code.co_filename != record.pathname:
        frame = frame.f_back
    return frame
