"""How much memory of Python some work takes."""

import tracemalloc
from collections.abc import Callable
from typing import Any


def least_traced(work: Callable[[], Any], times: int = 2) -> tuple[Any, int, int]:
    """What `work` returns, the bytes that it keeps and the most that it takes meanwhile.

    Of several measurements the least: other threads of the tests take memory, too.
    """
    kept, most = [], []
    for _ in range(times):
        tracemalloc.start()
        try:
            result = work()
            now, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        kept.append(now)
        most.append(peak)
    return result, min(kept), min(most)
