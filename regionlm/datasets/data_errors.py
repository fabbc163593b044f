"""Errors and warnings about datasets, each in one line like those of `regionlm.errors`."""

from collections.abc import Sequence

from prefix_models.checks import check_choice
from prefix_models.errors import DoubtWarning
from regionlm.errors import InputError


class DataError(InputError):
    """A dataset that is not where it should be, or has another format."""


class DataWarning(DoubtWarning):
    """A dataset that can be used but differs from the published one; both numbers are named."""


def check_split(dataset: str, split: str, splits: Sequence[str]) -> None:
    """Raise DataError unless a dataset has a split of this name."""
    check_choice(f"{dataset}: split", split, splits, DataError)
