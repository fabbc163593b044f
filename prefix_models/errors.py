"""Errors and warnings a user can cause, of all packages; this one's kinds of them.

A message is one line: what was expected, what was found, what to do. The command line knows the
two bases alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """Something a user gave cannot be used; further packages have kinds of their own."""


class DoubtWarning(UserWarning):
    """Something can be used, but perhaps not as it was meant, so results may be wrong."""


class PrefixModelError(UserError):
    """Weights, settings or inputs that a prefix model cannot use."""


class PrefixModelWarning(DoubtWarning):
    """A language model that can be used, but not as it should be."""


def first_line(error: Exception) -> str:
    """The first line of what an error of anybody's says, for a message; else its kind."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def kind_and_line(error: Exception) -> str:
    """What kind of error it is, and the first line of what it says, if it says anything."""
    kind, line = type(error).__name__, first_line(error)
    return kind if line == kind else f"{kind}: {line}"


@contextmanager
def within(place: object, kind: type[UserError] | None = None) -> Iterator[None]:
    """Put where it happened in front of a user's error: a file, a line of it, an option.

    kind: of error to make of it; None leaves it as it is.
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
    """Make a user's error of a library's: a message, and the first line of the cause.

    causes: of which types; by default of any, as damaged files surface as many.
    """
    try:
        yield
    except causes as error:
        raise kind(f"{message}: {first_line(error)}") from error
