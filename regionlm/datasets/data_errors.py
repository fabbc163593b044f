"""What can be wrong with a dataset. One line each, as in `regionlm.errors`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from prefix_models.checks import check_choice
from prefix_models.errors import DoubtWarning
from regionlm.errors import InputError


class DataError(InputError):
    """A dataset that is not where it should be, or not in the format it should have."""


class DataWarning(DoubtWarning):
    """A dataset that can be used but differs from what was published; both numbers are named."""


@contextmanager
def within(place: str) -> Iterator[None]:
    """Say where it was that something could not be used: a file and what is meant in it."""
    try:
        yield
    except InputError as error:
        raise DataError(f"{place}: {error}") from error


def check_split(dataset: str, split: str, splits: Sequence[str]) -> None:
    """Raise DataError unless a dataset has a split of this name."""
    check_choice(f"{dataset}: split", split, splits, DataError)
