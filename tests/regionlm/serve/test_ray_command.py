"""`regionlm serve --ray`: what it refuses, that it answers, and that nothing is left behind."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from ray import serve

from regionlm.cli.main import main
from regionlm.serve.deployment import NAME
from tests.regionlm.ray_cluster import CPUS, NICENESS, ROOT, started

PATIENCE = 240  # seconds: an idle machine takes a tenth
MARK = "REGIONLM_TEST"


@pytest.fixture
def damaged(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A bundle of which only loading shows that it can't be used."""
    folder = tmp_path / "damaged"
    shutil.copytree(tiny_bundle, folder)
    [weights] = (folder / "prefix_model/mappers").iterdir()
    weights.write_bytes(weights.read_bytes()[:-100])
    return folder


def _refused(capfd: pytest.CaptureFixture[str], *options: object) -> str:
    """What the command says when it refuses."""
    assert main(["serve", "--port", "0", "--device", "cpu", *map(str, options)]) == 2
    printed = capfd.readouterr()
    assert not printed.out
    return printed.err


@pytest.mark.parametrize(
    "options",
    [
        ["--model", "NO_SUCH"],
        ["--model", "./NO_SUCH"],
        ["--prompt", "What is it?"],
    ],
)
def test_what_needs_no_cluster_is_refused_before_one_is_looked_for(
    options: list[str], capfd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    said = _refused(capfd, *options, "--ray", "127.0.0.1:1")
    assert said == _refused(capfd, *options)


@pytest.mark.long
def test_what_a_replica_finds_is_said_as_without_ray(
    ray_cluster: None, damaged: Path, capfd
) -> None:
    expected = _refused(capfd, "--model", damaged)
    assert expected.startswith("regionlm: error: ") and expected.count("\n") == 1
    try:
        assert _refused(capfd, "--model", damaged, "--ray") == expected
        assert NAME not in serve.status().applications
    finally:
        serve.shutdown()


def test_more_replicas_than_devices_are_refused(ray_cluster: None, capfd) -> None:
    said = _refused(capfd, "--ray", "--devices", CPUS + 1)
    assert f"--devices: expected at most {CPUS}, the CPUs of the Ray cluster" in said


def test_a_port_that_is_taken_is_refused(ray_cluster: None, capfd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = _refused(capfd, "--ray", "--port", taken.getsockname()[1])
    assert "cannot listen there" in said and said.count("\n") == 1


# --- as a process, with a cluster of its own -------------------------------------------------


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen]]:
    """Start the command with Ray in `tmp_path`; at the end, nothing that it started may run."""
    mark, paths = uuid4().hex, os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    own = {MARK: mark, "PYTHONPATH": paths, "RAY_ADDRESS": "", "REGIONLM_TOKENS": "secret"}
    own[NICENESS] = "0"
    begun: list[subprocess.Popen] = []

    def popen(*options: object) -> subprocess.Popen:
        words = ["serve", "--ray", "--port", "0", "--device", "cpu", *map(str, options)]
        begun.append(
            subprocess.Popen(
                [sys.executable, "-m", "regionlm", *words],
                cwd=tmp_path,
                env=os.environ | own,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return begun[0]

    yield popen
    for process in begun:
        process.kill()
        process.communicate()
    _wait(lambda: not _with_mark(mark))


def _with_mark(mark: str) -> list[Path]:
    """Processes in whose environment the mark is."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (process / "environ").read_bytes():
                found.append(process)
        except OSError:  # it has ended, or is another user's
            continue
    return found


def _wait(is_so: Callable[[], object]) -> None:
    latest = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < latest
        time.sleep(0.1)


def test_it_answers_at_the_port_it_says_until_it_is_told_to_stop(
    start: Callable[..., subprocess.Popen], tiny_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "model").symlink_to(tiny_bundle)
    service = start("--model", "model", "--warmup")
    assert service.stdout is not None
    address = service.stdout.readline().partition(" on ")[2].partition(",")[0]
    token = {"Authorization": "Bearer secret"}
    models = f"{address}/v1/models"
    assert httpx.get(models, timeout=PATIENCE).status_code == 401
    answer = httpx.get(models, headers=token, timeout=PATIENCE)
    assert [one["id"] for one in answer.json()["data"]] == ["tiny"]
    service.send_signal(signal.SIGTERM)
    assert service.wait(PATIENCE) == 0


@pytest.mark.long
def test_it_stops_while_its_replica_loads(start: Callable[..., subprocess.Popen]) -> None:
    service = start("--model", "mini")
    _wait(lambda: started("ServeReplica", service.pid))
    service.send_signal(signal.SIGTERM)
    said = service.communicate(timeout=PATIENCE)
    assert service.returncode == 0 and said == ("", "")


@pytest.mark.long
def test_a_refusal_leaves_no_cluster_behind(
    start: Callable[..., subprocess.Popen], damaged: Path
) -> None:
    service = start("--model", damaged)
    printed, said = service.communicate(timeout=PATIENCE)
    assert service.returncode == 2 and not printed
    assert said.startswith("regionlm: error: ") and said.count("\n") == 1
