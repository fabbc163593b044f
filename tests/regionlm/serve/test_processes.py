"""A Supervisor keeps processes running, and ends them in order."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PATIENCE = 120


@contextmanager
def supervised(work="serve"):
    """The program, and the port at which it serves."""
    command = [sys.executable, "-m", "tests.regionlm.serve.supervised", work]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True) as program:
        try:
            yield program, int(program.stdout.readline() or 0)
        finally:
            program.kill()


class Client:
    """One connection."""

    def __init__(self, port, line):
        self.connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.lines = self.connection.makefile("rw")
        self.send(line)

    def send(self, line):
        print(line, file=self.lines, flush=True)

    def receive(self):
        """A line, or nothing where the connection was closed."""
        try:
            return self.lines.readline().strip()
        except ConnectionError:
            return ""


def seen(port, is_enough):
    """Ids of processes that answer, until they are enough."""
    found = set()
    latest = time.monotonic() + PATIENCE
    while not is_enough(found):
        assert time.monotonic() < latest, f"only {found} answered"
        found.add(int(Client(port, "who").receive()))
    return found


def is_running(number):
    try:
        status = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return status != "Z"


def wait_for_end(*numbers):
    latest = time.monotonic() + PATIENCE
    while any(map(is_running, numbers)):
        assert time.monotonic() < latest
        time.sleep(0.02)


def test_a_process_that_dies_is_started_again_and_its_request_fails_at_once():
    with supervised() as (program, port):
        before = seen(port, lambda found: len(found) == 2)
        waiting = Client(port, "wait")
        victim = int(waiting.receive())
        os.kill(victim, signal.SIGKILL)
        assert waiting.receive() == ""
        (other,) = before - {victim}
        assert other in seen(port, lambda found: len(found - before) == 1)
        program.terminate()
        assert program.wait(PATIENCE) == 0
        assert "has ended (by SIGKILL); it is started again in 0.5 s" in program.stderr.read()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_what_runs_finish(number):
    with supervised() as (program, port):
        both = seen(port, lambda found: len(found) == 2)
        waiting = Client(port, "wait")
        answering = int(waiting.receive())
        program.send_signal(number)
        wait_for_end(*both - {answering})
        waiting.send("go on")
        assert waiting.receive() == "done"
        assert program.wait(PATIENCE) == 0 and program.stderr.read() == ""
        assert not any(map(is_running, both))


def test_a_second_signal_ends_all_at_once():
    with supervised() as (program, port):
        both = seen(port, lambda found: len(found) == 2)
        waiting = Client(port, "wait")
        answering = int(waiting.receive())
        program.terminate()
        wait_for_end(*both - {answering})
        program.terminate()
        assert program.wait(PATIENCE) != 0 and waiting.receive() == ""
        assert not any(map(is_running, both))


def test_processes_end_with_the_first_one():
    with supervised() as (program, port):
        both = seen(port, lambda found: len(found) == 2)
        program.kill()
        wait_for_end(*both)


@pytest.mark.parametrize(
    "work, message",
    [
        ("refuse", "ModelError: no such device 1"),
        ("die", "ModelError: process 1 of 2 ended at its start (exit code 3)"),
    ],
)
def test_one_that_cannot_start_ends_all(work, message):
    with supervised(work) as (program, port):
        assert not port and program.wait(PATIENCE) != 0
        assert message in program.stderr.read()
