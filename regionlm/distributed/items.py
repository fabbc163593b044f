"""The items of a run, and the answer to one: the same on whatever a run runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from prefix_models.errors import PrefixModelError
from regionlm.distributed.journal import Answer
from regionlm.errors import InputError, ModelError

USERS_ERRORS = (InputError, ModelError, PrefixModelError)


class Items(Protocol):
    """The items of a run, by number; several threads may read at the same time."""

    def __len__(self) -> int:
        """Number of items."""
        ...

    def __getitem__(self, index: int) -> Any:
        """Read an item from disk. Raises InputError: it can't be read."""
        ...


class Read(NamedTuple):
    """An item, or the error that reading it raised."""

    number: int
    item: Any
    error: InputError | None = None


def read_item(items: Items, number: int) -> Read:
    """Read an item from disk."""
    try:
        return Read(number, items[number])
    except InputError as error:
        return Read(number, None, error)


def answer_to(
    read: Read,
    answer: Callable[[int, Any], Answer],
    unreadable: Callable[[int, InputError], Answer] | None,
) -> Answer:
    """The answer for an item.

    Args:
        read: the item.
        answer: from its number and itself to its answer.
        unreadable: makes the answer for an item that can't be read; None raises the error instead.
    """
    if read.error is None:
        return answer(read.number, read.item)
    if unreadable is None:
        raise read.error
    return unreadable(read.number, read.error)
