"""How the threads of this process wait for each other; standard library only.

The threads of OpenMP spin at the end of each parallel section. This costs nothing while a program
has the machine to itself, but two programs on the same cores slow each other down. On two cores,
one mask on a ViT-B/16 at 448 px took 1.5 s alone; with two programs at once it took 5.4 s in each
(14.7 s on another day), and 3.0 s where waiting threads sleep.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping

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
