"""Runs on several processes, stopped runs, and two runs of one output."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from regionlm.cli.main import main
from regionlm.distributed.run_folder import held

from .whole_runs import Run, Write, read_output

SLOW = ["--steps", 40]


@pytest.fixture
def alone(run: Run, write: Write, lines: list[dict], tmp_path: Path) -> Path:
    """One process, never stopped."""
    run(write(lines), tmp_path / "alone", *SLOW)
    return tmp_path / "alone"


@pytest.mark.parametrize(("processes", "done"), [(3, 0), (2, 6)])
def test_processes_change_no_byte(
    processes: int,
    done: int,
    alone: Path,
    refused: Run,
    start: Callable[..., subprocess.Popen],
    data: Path,
    output: Path,
) -> None:
    """Of two processes that go on after six lines, the second has nothing left to do."""
    if done:
        (data / f"{done}.png").rename(data / "hidden")
        refused(data / "m.jsonl", output, *SLOW)
        (data / "hidden").rename(data / f"{done}.png")
    process = start(data / "m.jsonl", output, *SLOW, "--devices", processes)
    said = process.communicate(timeout=500)[1]
    assert process.returncode == 0, said
    assert output.read_bytes() == alone.read_bytes()
    assert f"regions of {7 - done} images" in said and (f"; {done} images" in said) == bool(done)
    assert said.count("regions/s") == 1 and "Traceback" not in said


def _alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


@pytest.mark.long
def test_killed_and_started_again_it_ends_the_same(
    run: Run, start: Callable[..., subprocess.Popen], write: Write, lines: list[dict], output: Path
) -> None:
    """Two processes are killed, one goes on; what the first had started ends by itself."""
    manifest = write([{**line, "id": n} for n, line in enumerate(lines * 8)])
    run(manifest, output.with_name("whole"), "--steps", 100)
    process = start(manifest, output, "--steps", 100, "--devices", 2, "--workers", 1)
    parts = output.with_name("out.jsonl.parts")
    journals = [parts / f"answers-0000{n}.jsonl" for n in range(2)]
    deadline = time.monotonic() + 300
    while not all(journal.exists() and journal.stat().st_size for journal in journals):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.005)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(signal.SIGKILL)
    process.wait()
    while any(_alive(int(child)) for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    done = sum(journal.read_bytes().count(b"\n") for journal in journals)
    assert 2 <= done < 56 and children and not output.exists()
    with journals[0].open("ab") as file:  # and the kill may come in the middle of a line
        file.write(b'{"index": 55, "id": 5')
    assert f"; {done} images were done before" in run(manifest, output, "--steps", 100)
    assert output.read_bytes() == output.with_name("whole").read_bytes()
    assert not parts.exists()


@pytest.mark.long
@pytest.mark.parametrize(("number", "devices"), [(signal.SIGTERM, 2), (signal.SIGINT, 1)])
def test_asked_to_end_it_ends_and_keeps_what_is_done(
    number: signal.Signals,
    devices: int,
    start: Callable[..., subprocess.Popen],
    write: Write,
    lines: list[dict],
    output: Path,
) -> None:
    many = [{**line, "id": n} for n, line in enumerate(lines * 60)]
    process = start(write(many), output, "--steps", 100, "--devices", devices)
    journal = output.with_name("out.jsonl.parts") / "answers-00000.jsonl"
    deadline = time.monotonic() + 300
    while not (journal.exists() and journal.stat().st_size):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    said = process.communicate(timeout=300)[1]  # it finishes the items at hand first
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert 1 <= journal.read_bytes().count(b"\n") < 210 and not output.exists()


def test_killed_after_the_output_was_written(
    alone: Path, run: Run, write: Write, lines: list[dict], output: Path, refused: Run
) -> None:
    """The last thing a run does is to remove its parts; before that, it is not finished."""
    bad = write([*lines[:-1], {**lines[-1], "image": "none.png"}], "bad.jsonl")
    refused(bad, output, *SLOW)
    shutil.copy(alone, output)
    said = run(bad, output, *SLOW, "--skip_bad")
    assert "6 images were done before; 1 skipped" in said
    assert read_output(output)[:-1] == read_output(alone)[:-1]
    assert not output.with_name("out.jsonl.parts").exists()


@pytest.mark.long
def test_an_error_in_one_process_stops_all_and_is_said_once(
    start: Callable[..., subprocess.Popen], write: Write, lines: list[dict], output: Path
) -> None:
    many = [{**line, "id": n} for n, line in enumerate(lines * 30)]
    many[1]["image"] = "none.png"  # the second process's first
    process = start(write(many), output, "--steps", 100, "--devices", 2)
    said = process.communicate(timeout=500)[1]
    assert process.returncode == 2
    [message] = [line for line in said.splitlines() if "error" in line]
    assert "m.jsonl, line 2: image" in message and "none.png does not exist" in message
    done = output.with_name("out.jsonl.parts").glob("answers-*.jsonl")
    assert sum(file.read_bytes().count(b"\n") for file in done) < 100
    assert "Traceback" not in said and not output.exists()


def test_a_second_run_of_one_output_is_refused(
    run: Run, refused: Run, write: Write, lines: list[dict], output: Path
) -> None:
    manifest, parts = write(lines), output.with_name("out.jsonl.parts")
    parts.mkdir()
    with held(parts):
        message = refused(manifest, output)
        assert f"another run is using it (process {os.getpid()} on " in message
    run(manifest, output)
    assert len(read_output(output)) == 7 and not parts.exists()


def test_a_run_that_another_has_finished_meanwhile_is_refused(
    write: Write,
    lines: list[dict],
    output: Path,
    argv: Callable[..., list[str]],
    monkeypatch,
    capfd,
) -> None:
    def finished_meanwhile(model: str) -> str:
        output.write_text("its")
        return ""

    monkeypatch.setattr("regionlm.pretrained.model_digests.model_digest", finished_meanwhile)
    assert main(argv(write(lines), output)) == 2
    assert "exists already: delete it" in capfd.readouterr().err
    assert output.read_text() == "its" and not output.with_name("out.jsonl.parts").exists()
