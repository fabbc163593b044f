"""How threads of this process wait for each other; standard library only.

OpenMP's threads spin at the end of every parallel piece of work. Alone on a machine that costs
nothing; two programs side by side on the same cores take each other's time by it. On two cores, one
mask on a ViT-B/16 at 448 px took 1.5 s alone; two programs at once 5.4 s each (14.7 s on another
day), and 3.0 s each where threads sleep.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping

_SPINS = "GOMP_SPINCOUNT"  # GNU's OpenMP, which torch has on Linux
_POLICIES = (_SPINS, "OMP_WAIT_POLICY")


def sleep_while_waiting(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let waiting threads sleep, in this process and those that it starts.

    Call it before torch is imported: OpenMP reads the environment once. What the caller of the
    process has set stays. For programs that are ours alone: a library leaves this to its user.
    """
    if not any(name in environment for name in _POLICIES):
        environment[_SPINS] = "0"
