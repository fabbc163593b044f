"""Closing torch's process group before Python ends."""

from __future__ import annotations

import atexit

from torch import distributed


def close_at_exit() -> None:
    """Close the process group, if there is one by then, when the program ends.

    Lightning leaves a group of CPU processes open. Its threads may then still hold the tensors of
    the last collective, and letting go of them needs an interpreter that is no longer there: the
    process aborts with "terminate called without an active exception". Exit handlers run before
    the interpreter is taken down, and closing the group waits for its threads.
    """
    atexit.unregister(_close)  # one handler, however many runs a program makes
    atexit.register(_close)


def _close() -> None:
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
