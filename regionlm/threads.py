"""How many threads this process has, and how they wait for each other; standard library only.

The threads of OpenMP spin at the end of each parallel section. This costs nothing while a program
has the machine to itself, but two programs on the same cores slow each other down. On two cores,
one mask on a ViT-B/16 at 448 px took 1.5 s alone; with two programs at once it took 5.4 s in each
(14.7 s on another day), and 3.0 s where waiting threads sleep.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, MutableMapping
from pathlib import Path

_COUNT = "OMP_NUM_THREADS"
_OURS = "REGIONLM_CPU_QUOTA"  # the count, if it was set here; processes that we start see it, too
_SPINS = "GOMP_SPINCOUNT"  # of GNU's OpenMP, which torch uses on Linux
_POLICIES = (_SPINS, "OMP_WAIT_POLICY")


def sleep_while_waiting(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let waiting threads sleep, in this process and in those that it starts.

    Call it before torch is imported, since OpenMP reads the environment once. Nothing changes if
    the environment sets one of the variables already. This is for programs; a library leaves the
    choice to the program that imports it.
    """
    if not any(name in environment for name in _POLICIES):
        environment[_SPINS] = "0"


def limit_threads(environment: MutableMapping[str, str] = os.environ) -> None:
    """Start no more threads than the container may use processors, as by ``docker --cpus``.

    OpenMP and PyTorch see the processors of the machine and those this process is bound to, but not
    such a quota: on 64 cores they start 64 threads, which then wait for each other's share of one.
    Call it before torch is imported. ``OMP_NUM_THREADS`` of the environment overrides it.
    """
    count = available_processors()
    if _COUNT not in environment and count < bound_processors():
        environment[_COUNT] = environment[_OURS] = str(count)


def is_count_chosen(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the user has set the number of threads, by ``OMP_NUM_THREADS``."""
    return _COUNT in environment and environment[_COUNT] != environment.get(_OURS)


def bound_processors() -> int:
    """Processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def available_processors(groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Processors that this process may run on, at most its container's quota, rounded up.

    ``groups``: where Linux tells of control groups, of version 2 or 1. A container sees its own.
    """
    quota = _quota(groups / "cpu.max") or _quota(
        groups / "cpu/cpu.cfs_quota_us", groups / "cpu/cpu.cfs_period_us"
    )
    bound = bound_processors()
    return bound if quota is None else min(bound, math.ceil(quota))


def _quota(*files: Path) -> float | None:
    """Share of processors; None if there is no limit, or none is known."""
    try:
        used, period = " ".join(file.read_text() for file in files).split()
        share = int(used) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # no such file, or "max"
        return None
    return share if share > 0 else None  # version 1 says -1 for no limit
