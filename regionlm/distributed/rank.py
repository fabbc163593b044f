"""Which process of a run this is.

Standard library only: messages ask before torch or Lightning is loaded.
"""

from __future__ import annotations

import os

# As torchrun, Lightning's own launcher, SLURM and LSF say it to the processes that they start.
_VARIABLES = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")

_noted = 0


def note_rank(rank: int | None = None) -> None:
    """Note this process's number in the run that begins here, counted from 0.

    Args:
        rank: as the run's trainer says; None, before there is one: as the environment says.
    """
    global _noted
    _noted = _rank_of_environment() if rank is None else rank


def is_first_process() -> bool:
    """Whether this is the process that speaks to the user: the first of its run, or one that has
    begun no run, whatever the environment says of the program around it."""
    return _noted == 0


def _rank_of_environment() -> int:
    for name in _VARIABLES:
        value = os.environ.get(name, "")
        if value.isdecimal():
            return int(value)
    return 0
