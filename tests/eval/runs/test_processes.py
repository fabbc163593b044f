"""Neither the number of processes, nor a kill, changes a digit of the results."""

import json
import os
import re
import signal
import subprocess
import time

import pytest

from tests.eval.runs.whole_runs import ONE_THREAD, ROOT, assert_same, eval_command
from tests.ports import free_port
from tests.waiting import waiting_command


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """One process, never stopped."""
    output = tmp_path_factory.mktemp("alone") / "run"
    subprocess.run(eval_command(output), check=True, env=ONE_THREAD, cwd=ROOT)
    return output


# Twenty images: fewer did not show that a single process got other last digits of texts.
TWO_TASKS = [
    "--embedder.name", "cls", "--template", "{}", "--sweep", '{"task": ["referring", "classes"]}',
]  # fmt: skip


@pytest.fixture(scope="module")
def both_alone(tmp_path_factory):
    output = tmp_path_factory.mktemp("both") / "run"
    subprocess.run(eval_command(output, *TWO_TASKS, limit=20), check=True, env=ONE_THREAD, cwd=ROOT)
    return output


@pytest.mark.long
def test_processes_change_no_digit_of_the_other_tasks(both_alone, tmp_path):
    """Three, which do not divide the images."""
    options = [*TWO_TASKS, "--trainer.devices", "3"]
    command = eval_command(tmp_path / "run", *options, limit=20)
    subprocess.run(command, check=True, env=ONE_THREAD, cwd=ROOT, timeout=300)
    for task in ("task-referring", "task-classes"):
        assert_same(both_alone / task, tmp_path / "run" / task)
        assert len(list((tmp_path / "run" / task).glob("answers-*.jsonl"))) == 3
    report = (tmp_path / "run/report.md").read_text()
    assert report == (both_alone / "report.md").read_text()


def test_processes_change_no_digit(alone, tmp_path):
    """Seven images, which neither three processes divide nor the two that are killed below."""
    command = eval_command(tmp_path / "run", "--trainer.devices", "3")
    subprocess.run(command, check=True, env=ONE_THREAD, cwd=ROOT, timeout=300)
    assert_same(alone, tmp_path / "run")
    files = list((tmp_path / "run").glob("answers-*.jsonl"))
    seen = [json.loads(line)["index"] for file in files for line in file.read_text().splitlines()]
    assert len(files) == 3 and sorted(seen) == list(range(7))


@pytest.mark.long
def test_machines_change_no_digit(both_alone, tmp_path):
    """Two nodes of a process each, both here."""
    options = ["--embedder.name", "cls", "--template", "{}", "--trainer.num_nodes", "2"]
    command = eval_command(tmp_path / "run", *options, task="referring", limit=20)
    where = {**ONE_THREAD, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    nodes = [
        subprocess.Popen(command, env={**where, "NODE_RANK": str(rank)}, cwd=ROOT)
        for rank in range(2)
    ]
    try:
        assert [node.wait(timeout=300) for node in nodes] == [0, 0]
    finally:
        for node in nodes:
            node.kill()
    assert_same(both_alone / "task-referring", tmp_path / "run")
    assert len(list((tmp_path / "run").glob("answers-*.jsonl"))) == 2


def _killed(folder, *options):
    """Output of a run all of whose processes are killed after one answer, or a few more.

    The command is a file, since Lightning starts the other process as it was started itself.
    """
    output, script = folder / "run", folder / "waiting.py"
    script.write_text(waiting_command("regionlm.distributed.journal:JournalWriter", "write"))
    python, _, _, *arguments = eval_command(output, *options)
    process = subprocess.Popen(
        [python, script, *arguments],
        env={**ONE_THREAD, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        start_new_session=True,
    )
    deadline = time.monotonic() + 200
    try:
        while not any(file.stat().st_size for file in output.glob("answers-*.jsonl")):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.005)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert not (output / "result.json").exists()
    return output


@pytest.mark.long
def test_killed_and_started_again_it_ends_the_same(alone, tmp_path):
    output = _killed(tmp_path)
    journal = output / "answers-00000.jsonl"
    with journal.open("ab") as file:  # and the kill may come in the middle of a line
        file.write(b'{"index": 6, "image": "2')
    subprocess.run(eval_command(output), check=True, env=ONE_THREAD, cwd=ROOT)
    assert_same(alone, output)


@pytest.mark.long
def test_killed_on_two_processes_and_started_again_it_ends_the_same(alone, tmp_path):
    two = ["--trainer.devices", "2"]
    output = _killed(tmp_path, *two)
    subprocess.run(eval_command(output, *two), check=True, env=ONE_THREAD, cwd=ROOT, timeout=300)
    assert_same(alone, output)


@pytest.mark.long
@pytest.mark.parametrize("processes", [1, 2])
def test_progress_has_rate_and_counts_from_where_it_stopped(processes, tmp_path):
    """On stderr, where nothing else is: stdout has the report only."""
    output = tmp_path / "run"
    options = ["--embedder.name", "cls", "--trainer.devices", str(processes)]
    command = [*eval_command(output, *options, limit=4), "--trainer.progress", "true"]
    subprocess.run(command, check=True, env=ONE_THREAD, cwd=ROOT, capture_output=True)
    journal = output / "answers-00000.jsonl"
    kept = journal.read_text().splitlines(keepends=True)[:1]
    journal.write_text("".join(kept))
    (output / "result.json").unlink()
    done = subprocess.run(command, check=True, env=ONE_THREAD, cwd=ROOT, capture_output=True)
    # torch 2.9 prints there, both processes at once, in the middle of each other's lines
    noise = re.compile(r"\[Gloo\]|peer ranks|^[\s\d]*$")
    said, report = (
        [line for line in text.splitlines() if not noise.search(line)]
        for text in (done.stdout.decode(), (output / "report.md").read_text())
    )
    assert said == report
    lines = [line for line in done.stderr.decode().replace("\r", "\n").splitlines() if line]
    assert all(line.startswith("run") for line in lines), lines
    own = 4 // processes
    assert f" 1/{own} " in lines[0] and f" {own}/{own} " in lines[-1]
    assert re.search(r"\[\d\d:\d\d<\d\d:\d\d, +[\d.]+( images/s|s/ images)\]", lines[-1])
