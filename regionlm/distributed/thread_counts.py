"""How many threads a process of a run computes with."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from regionlm.threads import is_count_chosen

_CHOSEN = "OMP_NUM_THREADS"


def prediction_threads() -> int:
    """For runs whose answers must not depend on the machine: one, unless OMP_NUM_THREADS is set.

    The last digits of a sum depend on the number of threads.
    """
    return torch.get_num_threads() if is_count_chosen() else 1


def threads_each(processes: int) -> int:
    """For processes side by side: an equal share of what torch takes, all cores unless told
    otherwise.

    OMP_NUM_THREADS is taken as it is, for each process.

    Args:
        processes: of the run, on this machine.
    """
    count = torch.get_num_threads()
    return count if is_count_chosen() else max(1, count // processes)


@contextmanager
def threads_restored() -> Iterator[None]:
    """Leave the number of threads as it was before a `with` block in which Lightning launches.

    Lightning sets a number of its own then, and writes it to OMP_NUM_THREADS. What is to overrule
    that is set after the launch, in a module's hooks.
    """
    before, chosen = torch.get_num_threads(), os.environ.get(_CHOSEN)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        if chosen is None:
            os.environ.pop(_CHOSEN, None)
