"""SIGINT and SIGTERM as requests to stop at the next good moment."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any

_USUAL: dict[int, Any] = {
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGINT: signal.default_int_handler,
}


class StopSignals:
    """Notes SIGINT (Ctrl-C) and SIGTERM within a `with` block, where they end nothing.

    A second signal does: it raises KeyboardInterrupt in the first process. Signals that the
    surrounding program handles stay with it, and so do those that it ignores, as background jobs
    of a shell do. Python lets only the main thread handle signals; elsewhere this does nothing.

    received: whether there was a signal.

    Args:
        is_first: whether this process is the one that a second signal ends.
        request: called at the first signal, in the middle of whatever runs then.
    """

    def __init__(
        self, is_first: Callable[[], bool], request: Callable[[], None] = lambda: None
    ) -> None:
        self.is_first, self.request = is_first, request
        self.received = False
        self._ours: list[int] = []

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._ours = [
                number for number, usual in _USUAL.items() if signal.getsignal(number) is usual
            ]
        self.install()
        return self

    def __exit__(self, *_: object) -> None:
        for number in self._ours:
            signal.signal(number, _USUAL[number])

    def install(self) -> None:
        """Replace handlers that a library has put before ours since the block began."""
        for number in self._ours:
            signal.signal(number, self._handle)

    def _handle(self, *_: object) -> None:
        if self.received and self.is_first():
            raise KeyboardInterrupt
        self.received = True
        self.request()
