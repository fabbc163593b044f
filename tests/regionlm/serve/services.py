"""`regionlm serve` in a process of its own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

WAIT = 120  # seconds; only a failing test waits so long


class Service:
    """A running service: where it is, and its process."""

    def __init__(self, process):
        self.process = process
        line = process.stdout.readline()
        assert "http://" in line, line + process.stderr.read()
        self.url = line.rpartition(" on ")[2].partition(",")[0].strip()
        self.host, _, port = self.url.removeprefix("http://").rpartition(":")
        self.port = int(port)

    def terminate(self):
        """Tell it to stop, as whoever runs services does."""
        self.process.send_signal(signal.SIGTERM)

    def ended(self):
        """Wait for its end; its exit code."""
        return self.process.wait(WAIT)


@contextmanager
def running_service(*options: str) -> Iterator[Service]:
    """Start `regionlm serve` on a free port, with mini unless the options say otherwise."""
    command = [sys.executable, "-m", "regionlm", "serve", "--port", "0", *options]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    try:
        yield Service(process)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def body_of(**asked) -> bytes:
    """A request's JSON."""
    return json.dumps(asked).encode()
