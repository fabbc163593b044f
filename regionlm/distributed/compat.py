"""What we know of the ways in which Lightning's trainer ends."""

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
    """Raise InputError, in one line after `what`, where Lightning refuses arguments.

    It also refuses those that need a package which is not installed.
    """
    try:
        yield
    except (MisconfigurationException, ValueError, TypeError, ImportError) as error:
        raise mistake(what, error) from error


def mistake(what: str, error: Exception) -> InputError:
    """The same of an error at hand."""
    return InputError(f"{what}: {' '.join(str(error).split())}")


@contextmanager
def interruptible(trainer: L.Trainer) -> Iterator[None]:
    """Run a trainer, and raise KeyboardInterrupt if that is how it ended.

    Lightning makes a SystemExit of SIGINT and SIGTERM, or ends as if all were done.
    """
    try:
        yield
    except SystemExit:
        if not trainer.interrupted:
            raise
    if trainer.interrupted:
        raise KeyboardInterrupt
