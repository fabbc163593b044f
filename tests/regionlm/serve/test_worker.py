"""`regionlm serve --devices`: the model in several processes behind one port."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from regionlm.errors import InputError
from regionlm.serve.worker import device_names
from tests.regionlm.serve.pictures import encoded, picture

ROOT = Path(__file__).parents[3]
PATIENCE = 120
BODY = {"image": encoded(picture(1)), "regions": [{"box": [5, 5, 20, 20]}], "options": {"steps": 2}}


@pytest.mark.parametrize(
    "devices, expected",
    [
        (["1"], [None]),
        (["3"], [None, None, None]),
        (["cpu"], ["cpu"]),
        (["cuda:0", "cuda:1"], ["cuda:0", "cuda:1"]),
    ],
)
def test_devices_are_a_number_or_names(devices, expected):
    assert device_names(devices) == expected


@pytest.mark.parametrize("devices", [["0"], ["1", "2"], ["cpu", "2"], [""], ["-1", ""]])
def test_other_devices_are_refused(devices):
    with pytest.raises(InputError, match="devices: expected"):
        device_names(devices)


def start(*options):
    command = [sys.executable, "-m", "regionlm", "serve", "--port", "0", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True, env=environment)


@pytest.mark.long
@pytest.mark.parametrize(
    "options, message",
    [
        (["--devices", "cpu", "cuda:99"], "device 'cuda:99' was asked for"),
        (["--devices", "2", "--offline", "--model", "no/such"], "no/such"),
        (["--devices", "cpu", "--precision", "float16"], "--precision: expected float32"),
        (["--devices", "2", "--device", "cpu"], "--devices: found --device as well"),
    ],
)
def test_what_cannot_start_is_said_in_one_line(options, message):
    with start(*options) as program:
        try:
            assert program.wait(PATIENCE) == 2
        finally:
            program.kill()
        (line,) = program.stderr.read().splitlines()
        assert line.startswith("regionlm: error: ") and message in line


@contextmanager
def served():
    """The program with two processes, and its address."""
    options = ["--devices", "2", "--log", os.devnull, "--client_timeout", str(PATIENCE)]
    with start(*options) as program:
        try:
            line = program.stdout.readline()
            assert "processes: 2" in line, program.stderr.read()
            yield program, line.split()[4].rstrip(",")
        finally:
            program.kill()


class Load:
    """Clients that ask again and again, each on a new connection."""

    def __init__(self, address, count=4):
        self.address, self.statuses, self.errors = address, [], []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(count)]
        for one in self._threads:
            one.start()

    def _ask(self):
        while not self._stop.is_set():
            try:
                reply = httpx.post(f"{self.address}/v1/caption", json=BODY, timeout=PATIENCE)
                self.statuses.append(reply.status_code)
            except (httpx.NetworkError, httpx.RemoteProtocolError) as error:
                self.errors.append(error)
                self._stop.wait(0.05)

    def wait_for(self, more):
        """Until so many more were answered."""
        wanted = self.statuses.count(200) + more
        latest = time.monotonic() + PATIENCE
        while self.statuses.count(200) < wanted:
            assert time.monotonic() < latest and any(map(threading.Thread.is_alive, self._threads))
            time.sleep(0.02)

    def stop(self):
        self._stop.set()
        for one in self._threads:
            one.join(PATIENCE)
        assert not any(one.is_alive() for one in self._threads), "a client hangs"


def workers(program):
    """Ids of the processes that serve."""
    found = []
    for one in Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split():
        with suppress(OSError):  # ended meanwhile
            if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes():
                found.append(int(one))
    return found


def wait_until_both_answer(address):
    """One that is stopped as it begins to listen would leave no room for connections to wait."""
    seen, latest = set(), time.monotonic() + PATIENCE
    while seen != {"0", "1"}:
        assert time.monotonic() < latest, f"only {seen} have answered"
        httpx.get(f"{address}/health", timeout=PATIENCE)
        figures = httpx.get(f"{address}/metrics", timeout=PATIENCE).text  # of a second ago
        seen = set(re.findall(r'regionlm_requests_total\{.*process="(\d)"', figures))


def holders(processes, ports):
    """The process that has taken each connection from our ports; of those that have been taken.

    Counting a process's files instead would count its own ones, and what it has yet to close.
    """
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    remote = {f"socket:[{row[9]}]": int(row[2].partition(":")[2], 16) for row in rows}
    found = {}
    for process in processes:
        for file in Path(f"/proc/{process}/fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                if (port := remote.get(os.readlink(file))) in ports:
                    found[port] = process
    return found


def connections_taken(program, address, count=100):
    """How many of so many connections, which all wait already, each process takes."""
    host, _, port = address.removeprefix("http://").rpartition(":")
    processes = workers(program)
    for one in processes:
        os.kill(one, signal.SIGSTOP)
    opened = [socket.create_connection((host, int(port)), PATIENCE) for _ in range(count)]
    ports = {one.getsockname()[1] for one in opened}
    for one in processes:
        os.kill(one, signal.SIGCONT)
    taken, latest = {}, time.monotonic() + PATIENCE
    while len(taken) < count:
        assert time.monotonic() < latest, f"{len(taken)} were taken"
        time.sleep(0.02)
        taken |= holders(processes, ports)  # idle ones are cut off after a while
    for one in opened:
        one.close()
    return {one: list(taken.values()).count(one) for one in processes}


def test_processes_share_connections_and_survive_a_death_and_an_end_under_load():
    with served() as (program, address):
        wait_until_both_answer(address)
        latest = time.monotonic() + PATIENCE
        while min(connections_taken(program, address).values()) < 10:  # one was given no time
            assert time.monotonic() < latest, "one process takes all connections"
            time.sleep(0.5)
        before = workers(program)
        load = Load(address)
        load.wait_for(10)
        os.kill(before[0], signal.SIGKILL)
        load.wait_for(10)  # by the other one
        latest = time.monotonic() + PATIENCE
        while len(set(workers(program)) - set(before)) < 1:
            assert time.monotonic() < latest
            time.sleep(0.05)
        assert set(load.statuses) == {200}
        assert len(load.errors) <= 8  # what the dead one had accepted
        figures = ""
        while not ('process="0"' in figures and 'process="1"' in figures):  # of a second ago
            assert time.monotonic() < latest
            figures = httpx.get(f"{address}/metrics", timeout=PATIENCE).text

        program.send_signal(signal.SIGTERM)
        assert program.wait(PATIENCE) == 0
        load.stop()
        assert set(load.statuses) <= {200, 503}
        assert "has ended (by SIGKILL)" in program.stderr.read()


def test_figures_of_all_processes_come_from_any(engine, tmp_path):
    from prometheus_client.parser import text_string_to_metric_families

    from regionlm.serve.shared_metrics import SharedMetrics

    one, other = (SharedMetrics(engine, folder=tmp_path, number=number) for number in (0, 1))
    one.count("/v1/caption", 200, 0.5)
    one.count("/v1/caption", 200, 0.5)
    one.publish()
    other.count("/v1/caption", 422, 0.1)
    families = {f.name: f for f in text_string_to_metric_families(other.text().decode())}
    counts = {
        (sample.labels["process"], sample.labels["status"]): sample.value
        for sample in families["regionlm_requests"].samples
        if sample.name == "regionlm_requests_total"
    }
    assert counts == {("0", "200"): 2, ("1", "422"): 1}
    assert {s.labels["process"] for s in families["regionlm_waiting"].samples} == {"0", "1"}
    assert families["regionlm_request_seconds"].type == "histogram"


def test_figures_that_cannot_be_left_for_others_are_no_error(engine, tmp_path):
    from regionlm.serve.shared_metrics import SharedMetrics

    SharedMetrics(engine, folder=tmp_path / "gone", number=0).publish()


def test_figures_are_written_by_one_thread_at_a_time(engine, tmp_path, monkeypatch):
    from regionlm.serve.shared_metrics import SharedMetrics

    shared, plain, now = SharedMetrics(engine, folder=tmp_path, number=0), Path.write_bytes, []

    def slow(path, data):
        assert not now  # else one would take away the file of the other
        now.append(path)
        time.sleep(0.05)
        now.remove(path)
        return plain(path, data)

    monkeypatch.setattr(Path, "write_bytes", slow)
    with ThreadPoolExecutor(4) as threads:
        for publishing in [threads.submit(shared.publish) for _ in range(4)]:
            publishing.result(60)
