"""Few threads at a time read images and write replies, whichever face they are for: each may hold
a large image and its masks."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from regionlm.serve.errors import TooLateError

AT_ONCE = 4
"""How many, in this process."""

Result = TypeVar("Result")

_THREADS = ThreadPoolExecutor(AT_ONCE, "reader")
_TURNS = threading.Semaphore(AT_ONCE)


async def off_loop(work: Callable[[], Result], deadline: float | None = None) -> Result:
    """Do what takes time, such as decoding images, on one of the readers' threads.

    Args:
        work: is not begun after the deadline; what has begun by then ends on its thread.
        deadline: by `time.monotonic`; None: however late it is.

    Raises:
        TooLateError: the deadline passed before it was done.
    """
    running = asyncio.get_running_loop().run_in_executor(_THREADS, partial(in_turn, work, deadline))
    left = None if deadline is None else max(0.0, deadline - time.monotonic())
    try:
        await asyncio.wait([running], timeout=left)
        if not running.done():
            raise TooLateError
        return running.result()
    finally:
        running.cancel()


def in_turn(work: Callable[[], Result], deadline: float | None = None) -> Result:
    """As `off_loop`, on the thread that calls it, which waits for its turn."""
    left = None if deadline is None else max(0.0, deadline - time.monotonic())
    if not _TURNS.acquire(timeout=left):
        raise TooLateError
    try:
        return in_time(work, deadline)
    finally:
        _TURNS.release()


@contextmanager
def letting_others() -> Iterator[None]:
    """While a thread that has its turn waits for something else, others may read."""
    _TURNS.release()
    try:
        yield
    finally:
        _TURNS.acquire()


def in_time(work: Callable[[], Result], deadline: float | None) -> Result:
    """Do work that a thread has come to, unless nobody waits for it any more.

    Raises:
        TooLateError: after the deadline.
    """
    if deadline is not None and time.monotonic() >= deadline:
        raise TooLateError
    return work()
