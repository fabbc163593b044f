"""Whole runs on the bundled benchmark with the bundled model: processes, kills, bad files."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from PIL import Image

from eval.run_settings import Data, EmbedderSource, Machines, Run
from eval.runs.evaluate import evaluate
from eval.runs.sweep import evaluate_sweep
from regionlm.datasets.data_errors import DataError
from regionlm.datasets.mini import FOLDER
from regionlm.errors import InputError

ROOT = Path(__file__).parents[3]
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


def _run(output, task="referring", limit=6, **settings):
    settings.setdefault("embedder", EmbedderSource("maskinversion", {"steps": 2}))
    machines = Machines(accelerator="cpu", progress=False)
    data = Data("mini", workers=0)
    return Run(task, data, output, trainer=machines, limit=limit, **settings)


def _command(output, *options, task="captioning", limit=7):
    return [
        sys.executable, "-m", "regionlm", "eval", "--task", task, "--data.name", "mini",
        "--data.workers", "0", "--output", str(output), "--limit", str(limit),
        "--trainer.accelerator", "cpu", "--trainer.progress", "false", *options,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("task", "figures"),
    [
        ("captioning", {"micro", "macro_multi", "cider", "bleu@4", "rouge_l", "clipscore"}),
        ("classes", {"acc@1", "acc@5", "acc@10"}),
        ("referring", {"acc@1", "acc@5", "miou", "oiou", "expected_acc@1", "chance_acc@1"}),
    ],
)
def test_a_run_leaves_results(task, figures, tmp_path):
    result = evaluate(_run(tmp_path / "run", task))
    assert figures <= set(result["metrics"])
    most = {"cider": 10, "clipscore": 2.5, "refclipscore": 10 / 7}
    assert all(0 <= value <= most.get(name, 1) for name, value in result["metrics"].items())
    lines = (tmp_path / "run/samples.jsonl").read_text().splitlines()
    assert len(lines) == result["counts"]["queries"] > 6 == result["counts"]["images"]
    assert {"image", "mask"} <= set(json.loads(lines[0]))
    assert result == json.loads((tmp_path / "run/result.json").read_text())
    report = (tmp_path / "run/report.md").read_text()
    assert all(f"| {name} |" in report for name in figures)


def test_a_finished_run_is_not_run_again(tmp_path, monkeypatch):
    first = evaluate(_run(tmp_path / "run"))

    def refuse(*args):
        raise AssertionError("asked again")

    monkeypatch.setattr("eval.tasks.referring.ReferringRetrieval.answer", refuse)
    assert evaluate(_run(tmp_path / "run")) == first


def test_other_settings_do_not_mix(tmp_path):
    evaluate(_run(tmp_path / "run"))
    with pytest.raises(InputError, match=r"options\.steps was 2, is 3\); give another --output"):
        evaluate(_run(tmp_path / "run", embedder=EmbedderSource("maskinversion", {"steps": 3})))


def test_the_machine_is_told_and_decides_nothing(tmp_path):
    first = evaluate(_run(tmp_path / "run"))
    assert first["machine"] == {
        "accelerator": "cpu", "devices": 1, "num_nodes": 1, "strategy": "auto", "device": "cpu",
        "workers": 0, "skip_bad": False,
    }  # fmt: skip
    other = _run(tmp_path / "run", skip_bad=True)
    other.data.workers = 2
    again = evaluate(other)
    assert again["machine"] == {**first["machine"], "workers": 2, "skip_bad": True}
    assert {**again, "machine": 0} == {**first, "machine": 0}


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="other files"):
        evaluate(_run(tmp_path))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """One process, never stopped."""
    output = tmp_path_factory.mktemp("alone") / "run"
    subprocess.run(_command(output), check=True, env=ONE_THREAD, cwd=ROOT)
    return output


def _same(left, right):
    results = [json.loads((folder / "result.json").read_text()) for folder in (left, right)]
    assert results[0]["metrics"] == results[1]["metrics"]
    assert results[0]["counts"] == results[1]["counts"]
    assert (left / "samples.jsonl").read_bytes() == (right / "samples.jsonl").read_bytes()


# Twenty images: fewer did not show that a single process got other last digits of texts.
TWO_TASKS = [
    "--embedder.name", "cls", "--template", "{}", "--sweep", '{"task": ["referring", "classes"]}',
]  # fmt: skip


@pytest.fixture(scope="module")
def both_alone(tmp_path_factory):
    output = tmp_path_factory.mktemp("both") / "run"
    subprocess.run(_command(output, *TWO_TASKS, limit=20), check=True, env=ONE_THREAD, cwd=ROOT)
    return output


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_change_no_digit_of_the_other_tasks(processes, both_alone, tmp_path):
    options = [*TWO_TASKS, "--trainer.devices", str(processes)]
    command = _command(tmp_path / "run", *options, limit=20)
    subprocess.run(command, check=True, env=ONE_THREAD, cwd=ROOT, timeout=300)
    for task in ("task-referring", "task-classes"):
        _same(both_alone / task, tmp_path / "run" / task)
        assert len(list((tmp_path / "run" / task).glob("answers-*.jsonl"))) == processes
    report = (tmp_path / "run/report.md").read_text()
    assert report == (both_alone / "report.md").read_text()


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_change_no_digit(processes, alone, tmp_path):
    """Seven images: neither two nor three processes divide them."""
    command = _command(tmp_path / "run", "--trainer.devices", str(processes))
    subprocess.run(command, check=True, env=ONE_THREAD, cwd=ROOT, timeout=300)
    _same(alone, tmp_path / "run")
    files = list((tmp_path / "run").glob("answers-*.jsonl"))
    seen = [json.loads(line)["index"] for file in files for line in file.read_text().splitlines()]
    assert len(files) == processes and sorted(seen) == list(range(7))


def test_machines_change_no_digit(both_alone, tmp_path):
    """Two nodes of a process each, both here."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    options = ["--embedder.name", "cls", "--template", "{}", "--trainer.num_nodes", "2"]
    command = _command(tmp_path / "run", *options, task="referring", limit=20)
    where = {**ONE_THREAD, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    nodes = [
        subprocess.Popen(command, env={**where, "NODE_RANK": str(rank)}, cwd=ROOT)
        for rank in range(2)
    ]
    try:
        assert [node.wait(timeout=300) for node in nodes] == [0, 0]
    finally:
        for node in nodes:
            node.kill()
    _same(both_alone / "task-referring", tmp_path / "run")
    assert len(list((tmp_path / "run").glob("answers-*.jsonl"))) == 2


def test_killed_and_started_again_it_ends_the_same(alone, tmp_path):
    output = tmp_path / "run"
    process = subprocess.Popen(_command(output), env=ONE_THREAD, cwd=ROOT)
    journal = output / "answers-00000.jsonl"
    deadline = time.monotonic() + 200
    while not (journal.exists() and journal.stat().st_size):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (output / "result.json").exists()
    with journal.open("ab") as file:  # and the kill may come in the middle of a line
        file.write(b'{"index": 6, "image": "2')
    subprocess.run(_command(output), check=True, env=ONE_THREAD, cwd=ROOT)
    _same(alone, output)


def test_killed_on_two_processes_and_started_again_it_ends_the_same(alone, tmp_path):
    output = tmp_path / "run"
    command = _command(output, "--trainer.devices", "2")
    process = subprocess.Popen(command, env=ONE_THREAD, cwd=ROOT, start_new_session=True)
    deadline = time.monotonic() + 200
    while not any(file.stat().st_size for file in output.glob("answers-*.jsonl")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)  # both of them
    process.wait()
    assert not (output / "result.json").exists()
    subprocess.run(command, check=True, env=ONE_THREAD, cwd=ROOT, timeout=300)
    _same(alone, output)


@pytest.fixture
def damaged(tmp_path):
    """The benchmark's first images: 1 is cut short, 2 another picture, 3 gone, 4 twice as large."""
    root = tmp_path / "data"
    shutil.copytree(FOLDER, root)
    photos = root / "images"
    (photos / "1.jpg").write_bytes((photos / "1.jpg").read_bytes()[:2000])
    Image.new("RGB", (256, 200)).save(photos / "2.jpg")
    (photos / "3.jpg").unlink()
    with Image.open(photos / "4.jpg") as photo:
        photo.resize((512, 512)).save(photos / "4.jpg")
    tasks = json.loads((root / "refer_test.json").read_text())
    kept = [task for task in tasks if task["image_id"] < 6]
    (root / "refer_test.json").write_text(json.dumps(kept))
    return root


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_bad_image_stops_the_run_with_its_name(number, damaged, tmp_path):
    for other in {1, 2, 3} - {number}:
        shutil.copy(FOLDER / "images" / f"{other}.jpg", damaged / "images")
    run = _run(tmp_path / "run", limit=None)
    run.data.root = damaged
    with pytest.raises(DataError, match=rf"{number}\.jpg"):
        evaluate(run)


@pytest.mark.filterwarnings("ignore::regionlm.datasets.data_errors.DataWarning")
def test_bad_images_can_be_skipped_and_are_named(damaged, tmp_path):
    run = _run(tmp_path / "run", limit=None, skip_bad=True)
    run.data.root = damaged
    result = evaluate(run)
    assert result["counts"]["bad_images"] == 3 and result["counts"]["images"] == 6
    assert result["counts"]["resized_images"] == 1
    assert list(result["bad_images"]) == ["1", "2", "3"]
    reasons = ("cannot be decoded", "expected 256 x 256 pixels", "no such file")
    for number, reason in enumerate(reasons, start=1):
        assert f"{number}.jpg" in result["bad_images"][str(number)]
        assert reason in result["bad_images"][str(number)]
    report = (tmp_path / "run/report.md").read_text()
    assert all(f"Not read: {number}: " in report for number in (1, 2, 3))


@pytest.mark.filterwarnings("ignore::regionlm.datasets.data_errors.DataWarning")
def test_bad_images_are_read_again_by_each_start(damaged, tmp_path):
    """Of a finished run, too; whether those that are still bad are skipped is asked anew."""
    output = tmp_path / "run"

    def start(skip_bad, folder=output):
        run = _run(folder, embedder=EmbedderSource("cls"), skip_bad=skip_bad)
        run.data.root = damaged
        return evaluate(run)

    assert list(start(True)["bad_images"]) == ["1", "2", "3"]
    shutil.copy(FOLDER / "images/3.jpg", damaged / "images")
    with pytest.raises(DataError, match=r"1\.jpg cannot be decoded"):
        start(False)
    shutil.copy(FOLDER / "images/1.jpg", damaged / "images")
    options = ["--data.root", str(damaged), "--embedder.name", "cls", "--skip-bad"]
    command = _command(output, *options, "--trainer.devices", "2", task="referring", limit=6)
    subprocess.run(command, check=True, env=ONE_THREAD, cwd=ROOT, timeout=300)
    assert list(json.loads((output / "result.json").read_text())["bad_images"]) == ["2"]
    shutil.copy(FOLDER / "images/2.jpg", damaged / "images")
    assert start(False)["bad_images"] == {}
    start(False, tmp_path / "at once")
    _same(output, tmp_path / "at once")


@pytest.mark.filterwarnings("ignore::regionlm.datasets.data_errors.DataWarning")
def test_a_run_without_a_good_image_is_an_error(damaged, tmp_path):
    for photo in (damaged / "images").iterdir():
        photo.write_bytes(b"no picture")
    run = _run(tmp_path / "run", limit=None, skip_bad=True)
    run.data.root = damaged
    with pytest.raises(DataError, match=r"nothing to measure in 6 images, .* 6 could .*0\.jpg"):
        evaluate(run)
    assert not run.output.exists()


def test_half_a_character_is_no_reason_to_stop(damaged, tmp_path):
    for number in (1, 2, 3):
        shutil.copy(FOLDER / "images" / f"{number}.jpg", damaged / "images")
    tasks = json.loads((damaged / "refer_test.json").read_text())
    tasks[0]["phrase"] += " \ud83d"
    (damaged / "refer_test.json").write_text(json.dumps(tasks))
    for task in ("referring", "captioning"):
        run = _run(tmp_path / task, task, limit=None, embedder=EmbedderSource("cls"))
        run.data.root = damaged
        result = evaluate(run)
        assert all(value is not None for value in result["metrics"].values())
        lines = (run.output / "samples.jsonl").read_text(encoding="utf-8").splitlines()
        assert "\\ud83d" in lines[0]


def test_results_may_name_files_that_are_not_utf_8(tmp_path):
    from eval.runs.results import ImageAnswer, write_results

    settings = {"task": "classes", "data": {"name": "x"}, "model": {"name": "m\udcff"},
                "embedder": {"name": "cls", "options": {}}}  # fmt: skip
    result = write_results(tmp_path, [ImageAnswer("a", [], bad="\udcff.jpg")], {}, {}, settings, {})
    assert json.loads((tmp_path / "result.json").read_text(encoding="utf-8")) == result
    assert "Not read: a: \\udcff.jpg" in (tmp_path / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("flag", [["--skip-bad"], ["--skip_bad"], ["--skip_bad", "true"]])
def test_skip_bad_needs_no_value(flag, damaged, tmp_path, capsys):
    from regionlm.cli.main import main

    options = ["--data.root", str(damaged), "--embedder.name", "cls", *flag, "--limit", "6"]
    assert main([*_command(tmp_path / "run", task="classes")[3:], *options]) == 0
    assert capsys.readouterr().out.count("Not read") == 3


def test_sweeps_and_configs_from_the_command_line(tmp_path):
    config = {
        "task": "classes",
        "data": {"name": "mini", "workers": 0},
        "output": str(tmp_path / "sweep"),
        "limit": 2,
        "trainer": {"accelerator": "cpu", "progress": False},
        "sweep": {"embedder.name": ["cls", "crop"], "task": ["classes", "referring"]},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "regionlm", "eval", "--config", tmp_path / "run.yaml"]
    done = subprocess.run(command, check=True, env=ONE_THREAD, cwd=ROOT, capture_output=True)
    table, sweep = done.stdout.decode(), tmp_path / "sweep"
    assert table.count("## ") == 2 and table.count("\n| crop |") == 2
    assert table == (sweep / "report.md").read_text()
    assert done.stderr == b"", "nothing needs saying"
    result = json.loads((sweep / "result.json").read_text())
    assert len(result["runs"]) == 4 and result["sweep"] == config["sweep"]
    for folder, part in result["runs"].items():
        assert part == json.loads((sweep / folder / "result.json").read_text())
    with Image.open(sweep / "sweep.png") as picture:
        assert picture.width > 100
    again = subprocess.run(
        [sys.executable, "-m", "regionlm", "report", sweep],
        check=True, cwd=ROOT, capture_output=True,
    )  # fmt: skip
    assert again.stdout.decode() == table


def test_a_sweep_leaves_a_single_runs_folder_alone(tmp_path):
    before = evaluate(_run(tmp_path / "run"))
    with pytest.raises(DataError, match="found a single run"):
        evaluate_sweep(_run(tmp_path / "run", sweep={"embedder.options.steps": [1, 2]}))
    assert json.loads((tmp_path / "run/result.json").read_text()) == before


@pytest.mark.parametrize("processes", [1, 2])
def test_progress_has_rate_and_counts_from_where_it_stopped(processes, tmp_path):
    """On stderr, where nothing else is: stdout has the report only."""
    output = tmp_path / "run"
    options = ["--embedder.name", "cls", "--trainer.devices", str(processes)]
    command = [*_command(output, *options, limit=4), "--trainer.progress", "true"]
    subprocess.run(command, check=True, env=ONE_THREAD, cwd=ROOT, capture_output=True)
    journal = output / "answers-00000.jsonl"
    kept = journal.read_text().splitlines(keepends=True)[:1]
    journal.write_text("".join(kept))
    (output / "result.json").unlink()
    done = subprocess.run(command, check=True, env=ONE_THREAD, cwd=ROOT, capture_output=True)
    said = done.stdout.decode().splitlines(keepends=True)
    # torch 2.9 prints there, both processes at once
    said = [line for line in said if "[Gloo]" not in line and "peer ranks" not in line]
    assert "".join(said) == (output / "report.md").read_text()
    lines = [line for line in done.stderr.decode().replace("\r", "\n").splitlines() if line]
    assert all(line.startswith("run") for line in lines), lines
    own = 4 // processes
    assert f" 1/{own} " in lines[0] and f" {own}/{own} " in lines[-1]
    assert re.search(r"\[\d\d:\d\d<\d\d:\d\d, +[\d.]+( images/s|s/ images)\]", lines[-1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data.name", "nothing"], "nothing"),
        (["--embedder.name", "nothing"], "nothing"),
        (["--model.name", "nothing"], "nothing"),
        (["--data.name", "phrasecut"], "data.root"),
        (["--task", "dancing"], "dancing"),
        (["--limit", "0"], "limit"),
        (["--data.workers", "-1"], "data.workers: expected 0 threads or more, found -1"),
        (["--data.options", '{"limit": 3}'], "found 'limit'"),
        (["--embedder.options", '{"nothing": 3}'], "nothing: not an option of the embedder"),
        (["--template", "{x}"], "template: expected words with {} once"),
        (["--template", "no braces"], "template: expected words with {} once"),
        (["--template", "{} and {}"], "template: expected words with {} once"),
        (["--template", "{} {"], "template: expected words with {} once"),
        (["--sweep", '{"embedder.nothing": [1]}'], "embedder.nothing"),
        (["--sweep", '{"output": ["a"]}'], "output is no setting of a run that can vary"),
        (["--sweep", '{"limit": [2, "x"]}'], "limit: expected int, found 'x'"),
        (["--sweep", '{"clipscore": [true, 3]}'], "clipscore 3"),
        (["--sweep", '{"task": ["classes", "dancing"]}'], "task dancing"),
        (["--sweep", '{"masks": ["exact", "worn"]}'], "masks worn"),
        (["--sweep", '{"embedder.name": ["cls", "nothing"]}'], "nothing"),
        (["--sweep", '{"embedder.options.size": [64], "data.name": ["mini", "x"]}'], "got 'x'"),
        (["--sweep", '{"embedder.options.nothing": [64]}'], "nothing: not an option"),
        (["--sweep", '{"template": ["a {}", "b"]}'], "found 'b'"),
        (["--sweep", '{"judge.nothing": ["mini"]}'], "judge.nothing is no setting"),
        (["--sweep", '{"limit": []}'], "expected a list of values for limit"),
        (["--sweep", '{"limit": [1, 2, 1]}'], "limit has 1 twice"),
    ],
)
def test_bad_settings_are_one_line(options, message, tmp_path, capsys):
    from regionlm.cli.main import main

    assert main([*_command(tmp_path / "run")[3:], *options]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert not (tmp_path / "run").exists()
