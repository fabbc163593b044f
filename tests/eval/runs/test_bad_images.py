"""Images that cannot be read stop a run, or are skipped and named."""

import json
import shutil
import subprocess

import pytest
from PIL import Image

from eval.run_settings import EmbedderSource
from eval.runs.evaluate import evaluate
from regionlm.cli.main import main
from regionlm.datasets.data_errors import DataError
from regionlm.datasets.mini import FOLDER
from tests.eval.runs.whole_runs import ONE_THREAD, ROOT, a_run, assert_same, eval_command


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
    run = a_run(tmp_path / "run", limit=None)
    run.data.root = damaged
    with pytest.raises(DataError, match=rf"{number}\.jpg"):
        evaluate(run)


@pytest.mark.filterwarnings("ignore::regionlm.datasets.data_errors.DataWarning")
def test_bad_images_can_be_skipped_and_are_named(damaged, tmp_path):
    run = a_run(tmp_path / "run", limit=None, skip_bad=True)
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


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::regionlm.datasets.data_errors.DataWarning")
def test_bad_images_are_read_again_by_each_start(damaged, tmp_path):
    """Of a finished run, too; whether those that are still bad are skipped is asked anew."""
    output = tmp_path / "run"

    def start(skip_bad, folder=output):
        run = a_run(folder, embedder=EmbedderSource("cls"), skip_bad=skip_bad)
        run.data.root = damaged
        return evaluate(run)

    assert list(start(True)["bad_images"]) == ["1", "2", "3"]
    shutil.copy(FOLDER / "images/3.jpg", damaged / "images")
    with pytest.raises(DataError, match=r"1\.jpg cannot be decoded"):
        start(False)
    shutil.copy(FOLDER / "images/1.jpg", damaged / "images")
    options = ["--data.root", str(damaged), "--embedder.name", "cls", "--skip-bad"]
    command = eval_command(output, *options, "--trainer.devices", "2", task="referring", limit=6)
    subprocess.run(command, check=True, env=ONE_THREAD, cwd=ROOT, timeout=300)
    assert list(json.loads((output / "result.json").read_text())["bad_images"]) == ["2"]
    shutil.copy(FOLDER / "images/2.jpg", damaged / "images")
    assert start(False)["bad_images"] == {}
    start(False, tmp_path / "at once")
    assert_same(output, tmp_path / "at once")


@pytest.mark.filterwarnings("ignore::regionlm.datasets.data_errors.DataWarning")
def test_a_run_without_a_good_image_is_an_error(damaged, tmp_path):
    for photo in (damaged / "images").iterdir():
        photo.write_bytes(b"no picture")
    run = a_run(tmp_path / "run", limit=None, skip_bad=True)
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
        run = a_run(tmp_path / task, task, limit=None, embedder=EmbedderSource("cls"))
        run.data.root = damaged
        result = evaluate(run)
        assert all(value is not None for value in result["metrics"].values())
        lines = (run.output / "samples.jsonl").read_text(encoding="utf-8").splitlines()
        assert "\\ud83d" in lines[0]


@pytest.mark.parametrize("flag", [["--skip-bad"], ["--skip_bad"], ["--skip_bad", "true"]])
def test_skip_bad_needs_no_value(flag, damaged, tmp_path, capsys):
    options = ["--data.root", str(damaged), "--embedder.name", "cls", *flag, "--limit", "6"]
    assert main([*eval_command(tmp_path / "run", task="classes")[3:], *options]) == 0
    assert capsys.readouterr().out.count("Not read") == 3
