"""Several processes behind one port: starts them, and starts again what has died.

All accept from one listening socket, so a process that is busy or dead takes no new connections.
Connections of a process that dies are closed by the system: their clients get an error at once.
"""

from __future__ import annotations

import multiprocessing
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from regionlm.distributed.signals import StopSignals
from regionlm.errors import ModelError

Work = Callable[[int, socket.socket, Connection], None]
"""What a process does: its number, the listening socket, and where it sends None once it serves, or
in words why it can't. SIGTERM lets it finish what it does, and end. It must be picklable."""

_POLL = 0.2  # seconds between looks at signals; a process that ends is noticed at once
_STEADY = 60.0  # seconds after which a process that dies is not taken for one that fails at start
_LONGEST_PAUSE = 30.0  # seconds before a process is started again


@dataclass
class _Process:
    """A process, or the place of one that has died."""

    number: int
    process: BaseProcess
    channel: Connection
    begun: float = field(default_factory=time.monotonic)
    failures: int = 0
    is_ready: bool = False
    again_at: float | None = None
    """When to start it again; None while it runs."""


class Supervisor:
    """Keeps processes running until SIGTERM or SIGINT; then all finish what they do.

    Args:
        work: what each does.
        count: of processes, numbered from 0.
        listening: the socket from which all accept.
        patience: seconds that they may take to finish.
    """

    def __init__(self, work: Work, count: int, listening: socket.socket, patience: float) -> None:
        self._work, self._listening, self._patience = work, listening, patience
        self._context = multiprocessing.get_context("spawn")  # CUDA can't be used after a fork
        self._count = count
        self._all: list[_Process] = []
        self._has_started = False
        self._latest: float | None = None  # to finish; None while not stopping

    def run(self, started: Callable[[], None]) -> None:
        """Start all, and return when all have ended after a signal.

        A second signal ends them at once, and raises KeyboardInterrupt.

        Args:
            started: called once all serve.

        Raises:
            ModelError: one could not start; the others are ended.
        """
        with StopSignals(lambda: True) as signals:
            try:
                self._all = [self._start(number) for number in range(self._count)]
                while self._latest is None or any(p.process.is_alive() for p in self._all):
                    self._wait()
                    if signals.received:
                        self._stop()
                    for number in range(self._count):
                        self._look_after(number)
                    if not self._has_started and all(one.is_ready for one in self._all):
                        self._has_started = True
                        started()
            finally:
                for one in self._all:
                    one.process.kill()
                    one.process.join()

    def _start(self, number: int, failures: int = 0) -> _Process:
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=self._work,
            args=(number, self._listening, theirs),
            name=f"regionlm {number}",
            daemon=True,
        )
        process.start()
        theirs.close()  # so that its end is noticed
        return _Process(number, process, ours, failures=failures)

    def _wait(self) -> None:
        """Until something happens to a process, or there may be a signal."""
        alive = [one for one in self._all if one.again_at is None]
        handles: list[Any] = [one.process.sentinel for one in alive]
        handles += [one.channel for one in alive if not one.is_ready and not one.channel.closed]
        wait(handles, _POLL)

    def _stop(self) -> None:
        """Tell all to finish; end those that take too long."""
        if self._latest is None:
            self._latest = time.monotonic() + self._patience
            for one in self._all:
                one.process.terminate()
        elif time.monotonic() > self._latest:
            for one in self._all:
                one.process.kill()

    def _look_after(self, number: int) -> None:
        one = self._all[number]
        if one.again_at is not None:
            if self._latest is None and time.monotonic() >= one.again_at:
                self._all[number] = self._start(number, one.failures)
            return
        self._hear(one)
        if not one.process.is_alive() and self._latest is None:
            self._plan_restart(one)

    def _hear(self, one: _Process) -> None:
        """Whether a process serves now, or why it can't."""
        if one.is_ready or one.channel.closed or not one.channel.poll():
            return
        try:
            problem: str | None = one.channel.recv()
        except EOFError:  # it died without a word
            one.channel.close()
            return
        if problem is None:
            one.is_ready = True
        elif not self._has_started:
            raise ModelError(problem)
        else:
            _tell(f"process {one.number}: {problem}")
        one.channel.close()

    def _plan_restart(self, one: _Process) -> None:
        how = _ending(one.process.exitcode)
        if not self._has_started:
            raise ModelError(f"process {one.number} of {self._count} ended at its start ({how})")
        lived = time.monotonic() - one.begun
        one.failures = 1 if one.is_ready and lived > _STEADY else one.failures + 1
        pause = min(_LONGEST_PAUSE, 0.5 * 2 ** (one.failures - 1))
        one.again_at = time.monotonic() + pause
        _tell(f"process {one.number} has ended ({how}); it is started again in {pause:g} s")


def _ending(code: int | None) -> str:
    if code is None or code >= 0:
        return f"exit code {code}"
    try:
        return f"by {signal.Signals(-code).name}"
    except ValueError:
        return f"by signal {-code}"


def _tell(text: str) -> None:
    print("regionlm:", " ".join(text.split()), file=sys.stderr, flush=True)
