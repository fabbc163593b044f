"""How Lightning's trainer ends, and how it refuses arguments."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from regionlm.errors import InputError
from regionlm.extras import extra

with extra("bulk"):
    import lightning as L
    from lightning.pytorch.utilities.exceptions import MisconfigurationException


@contextmanager
def mistakes_named(what: str) -> Iterator[None]:
    """Turn Lightning's refusal of an argument into an InputError of one line, which `what` begins.

    This includes arguments that need a package which is not installed.
    """
    try:
        yield
    except (MisconfigurationException, ValueError, TypeError, ImportError) as error:
        raise mistake(what, error) from error


def mistake(what: str, error: Exception) -> InputError:
    """The InputError that stands for an error of Lightning's."""
    return InputError(f"{what}: {' '.join(str(error).split())}")


@contextmanager
def interruptible(trainer: L.Trainer) -> Iterator[None]:
    """Raise KeyboardInterrupt if the trainer was interrupted.

    Lightning turns SIGINT and SIGTERM into SystemExit, or returns as if the run were complete.
    """
    try:
        yield
    except SystemExit:
        if not trainer.interrupted:
            raise
    if trainer.interrupted:
        raise KeyboardInterrupt
