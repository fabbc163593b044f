"""Packages that `pip install .` leaves out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from regionlm.errors import InputError


class MissingExtraError(InputError, ImportError):
    """Something needs a package that is not installed; says which extra brings it."""


def require(extra: str, *modules: str) -> None:
    """Raise MissingExtraError, naming the extra to install, unless all these modules are there."""
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise _missing(extra, " and ".join(missing))


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Name the extra that brings what is imported inside the block, where that is not installed.

    ```
    with extra("train"):
        import lightning as L
    ```
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise _missing(name, error.name or str(error)) from error


def _missing(extra: str, what: str) -> MissingExtraError:
    return MissingExtraError(
        f"this needs {what}, not installed: pip install"
        f' "regionlm[{extra}]" (in a checkout: pip install ".[{extra}]")'
    )
