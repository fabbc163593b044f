"""Base classes for errors and warnings that users can cause, and those of this package.

A message is one line: what was expected, what was found, and what to do. The command line catches
the two base classes.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """Input that cannot be used; each package has its own subclasses."""


class DoubtWarning(UserWarning):
    """Input that can be used, but maybe not as intended, so results may be wrong."""


class PrefixModelError(UserError):
    """Weights, settings or inputs that a prefix model cannot use."""


class PrefixModelWarning(DoubtWarning):
    """A language model that works, but not in the usual way."""


def first_line(error: Exception) -> str:
    """First line of any error's message, or its class name if the message is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def kind_and_line(error: Exception) -> str:
    """An error's class name, followed by the first line of its message, if any."""
    kind, line = type(error).__name__, first_line(error)
    return kind if line == kind else f"{kind}: {line}"


@contextmanager
def within(place: object, kind: type[UserError] | None = None) -> Iterator[None]:
    """Put the place in front of a user's error message: a file, a line, or an option.

    kind: the type of error to raise; None keeps the type.
    """
    try:
        yield
    except UserError as error:
        raise (kind or type(error))(f"{place}: {error}") from error


@contextmanager
def refusing(
    kind: type[UserError],
    message: str,
    causes: type[Exception] | tuple[type[Exception], ...] = Exception,
) -> Iterator[None]:
    """Turn a library's error into a user's: a message, then the first line of the cause.

    causes: types of errors to turn; by default all, because damaged files cause many types.
    """
    try:
        yield
    except causes as error:
        raise kind(f"{message}: {first_line(error)}") from error
