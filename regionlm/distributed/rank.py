"""Which process of a run this is.

This uses the standard library only, since messages may be printed before torch is loaded.
"""

from __future__ import annotations

import os
import threading
import time

# Set by torchrun, Lightning's own launcher, SLURM and LSF for the processes that they start.
_VARIABLES = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")

_noted = 0


def note_rank(rank: int | None = None) -> None:
    """Remember the rank of this process in the run that begins, counted from 0.

    Args:
        rank: of the run's trainer; None, while there is no trainer, takes it from the environment.
    """
    global _noted
    _noted = _rank_of_environment() if rank is None else rank


def is_first_process() -> bool:
    """Whether this process speaks to the user.

    That is the first process of a run, and any process that has begun no run, whatever the
    environment says about the program around it.
    """
    return _noted == 0


def end_with_launcher() -> None:
    """End this process once the process that launched it is gone, even if that was killed.

    Without this, a worker that waits for a killed first process would wait for good. Processes that
    no launcher has started, as well as the first on a machine, are left alone.
    """
    if os.environ.get("LOCAL_RANK", "0") in ("", "0"):
        return
    launcher = os.getppid()

    def watch() -> None:
        while os.getppid() == launcher:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _rank_of_environment() -> int:
    for name in _VARIABLES:
        value = os.environ.get(name, "")
        if value.isdecimal():
            return int(value)
    return 0
