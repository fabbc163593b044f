"""What a run is told, and what it records of that."""

import json
from pathlib import Path

import pytest

from eval.run_settings import Data, EmbedderSource, Machines, ModelSource, Run
from eval.runs.check import check_run
from eval.runs.evaluate import evaluate
from regionlm.datasets.data_errors import DataError


def _run(output, task="classes", **settings):
    machines = Machines(accelerator="cpu", progress=False)
    data = Data("mini", workers=0)
    embedder = EmbedderSource("cls")
    return Run(task, data, output, embedder=embedder, trainer=machines, limit=2, **settings)


def test_folders_may_be_texts(tmp_path):
    run = _run(str(tmp_path / "run"))
    assert isinstance(run.output, Path)
    assert Data("voc2012", "a/b").root == Path("a/b") and Data("mini").root is None
    assert evaluate(run)["counts"]["images"] == 2


def test_a_sweep_is_no_single_run(tmp_path):
    run = _run(tmp_path / "run", sweep={"limit": [1, 2]})
    with pytest.raises(DataError, match=r"sweep: .*eval\.runs\.sweep\.evaluate_sweep"):
        evaluate(run)
    assert not (tmp_path / "run").exists()


def test_threads_are_counted_from_0(tmp_path):
    run = _run(tmp_path)
    run.data.workers = -1
    with pytest.raises(DataError, match=r"data\.workers: expected an integer >= 0, found -1"):
        check_run(run)


UNREAD = {
    "judge": ModelSource("mini"),
    "decoding": {"max_tokens": 3},
    "clipscore": False,
    "model": ModelSource("mini", prefix="zero-shot"),
}


@pytest.mark.parametrize("task", ["classes", "referring"])
def test_retrieval_reads_no_setting_of_captioning(task, tmp_path):
    found = evaluate(_run(tmp_path / "run", task))
    assert not {"judge", "decoding", "clipscore"} & set(found["settings"])
    assert "prefix" not in found["settings"]["model"]
    assert evaluate(_run(tmp_path / "run", task, **UNREAD)) == found  # and goes on all the same


@pytest.mark.parametrize(
    ("task", "template"), [("classes", "a photo of a {}"), ("referring", "{}")]
)
def test_the_tasks_own_prompt_is_named(task, template, tmp_path):
    found = evaluate(_run(tmp_path / "run", task))
    assert found["settings"]["template"] == template
    assert evaluate(_run(tmp_path / "run", task, template=template)) == found


def test_captioning_reads_no_prompt(tmp_path):
    judge = ModelSource("mini", prefix="zero-shot")
    found = evaluate(_run(tmp_path / "run", "captioning", template="a {}", judge=judge))
    assert "template" not in found["settings"] and found["settings"]["clipscore"] is True
    assert found["settings"]["judge"] == {"name": "mini", "pretrained": None, "offline": False}
    assert "prefix" in found["settings"]["model"]
    again = _run(tmp_path / "run", "captioning", template="b {}", judge=ModelSource("mini"))
    assert evaluate(again) == found


def test_swept_prompts_are_texts(tmp_path, capsys):
    from regionlm.cli.main import main

    templates = ["{}", "a photo: {}", "[{}]"]
    command = [
        "eval", "--task", "classes", "--data.name", "mini", "--data.workers", "0", "--limit", "2",
        "--embedder.name", "cls", "--trainer.accelerator", "cpu", "--trainer.progress", "false",
        "--output", str(tmp_path / "run"), "--sweep", json.dumps({"template": templates}),
    ]  # fmt: skip
    assert main(command) == 0
    table = capsys.readouterr().out
    assert all(f"\n| {template} |" in table for template in templates)
