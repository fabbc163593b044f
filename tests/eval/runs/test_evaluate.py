"""Whole runs on the bundled benchmark: what they leave, and when they are run again."""

import json

import pytest

from eval.run_settings import EmbedderSource
from eval.runs.evaluate import evaluate
from eval.runs.results import ImageAnswer, write_results
from regionlm.backbones.trunk_options import AS_USUAL, TrunkOptions
from regionlm.cli.main import main
from regionlm.distributed.thread_counts import prediction_threads
from regionlm.errors import InputError
from tests.eval.runs.whole_runs import a_run


@pytest.mark.parametrize(
    ("task", "figures"),
    [
        ("captioning", {"micro", "macro_multi", "cider", "bleu@4", "rouge_l", "clipscore"}),
        ("classes", {"acc@1", "acc@5", "acc@10"}),
        ("referring", {"acc@1", "acc@5", "miou", "oiou", "expected_acc@1", "chance_acc@1"}),
    ],
)
def test_a_run_leaves_results(task, figures, tmp_path):
    result = evaluate(a_run(tmp_path / "run", task))
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
    first = evaluate(a_run(tmp_path / "run"))

    def refuse(*args):
        raise AssertionError("asked again")

    monkeypatch.setattr("eval.tasks.referring.ReferringRetrieval.answer", refuse)
    assert evaluate(a_run(tmp_path / "run")) == first


def test_other_settings_do_not_mix(tmp_path):
    evaluate(a_run(tmp_path / "run"))
    with pytest.raises(InputError, match=r"options\.steps was 2, is 3\); give another --output"):
        evaluate(a_run(tmp_path / "run", embedder=EmbedderSource("maskinversion", {"steps": 3})))


HALF = TrunkOptions(precision="bfloat16")


def test_a_trunk_in_half_precision_is_told_and_mixes_with_no_other(tmp_path):
    half = evaluate(a_run(tmp_path / "half", "captioning", trunk=HALF))
    usual = evaluate(a_run(tmp_path / "usual", "captioning"))
    assert half["settings"]["trunk"] == {"precision": "bfloat16"}
    assert "trunk" not in usual["settings"]  # as in runs before there was such an option
    samples = [(tmp_path / name / "samples.jsonl").read_text() for name in ("half", "usual")]
    assert samples[0] != samples[1]
    reports = [(tmp_path / name / "report.md").read_text() for name in ("half", "usual")]
    assert "Model `mini` (precision bfloat16); " in reports[0] and "precision" not in reports[1]
    assert evaluate(a_run(tmp_path / "half", "captioning", trunk=HALF)) == half  # goes on
    for folder, trunk in (("half", AS_USUAL), ("usual", HALF)):
        with pytest.raises(InputError, match=r"trunk\.precision was .*; give another --output"):
            evaluate(a_run(tmp_path / folder, "captioning", trunk=trunk))


@pytest.mark.parametrize("task", ["referring", "classes"])
def test_the_trunk_of_every_task_is_computed_as_asked_for(task, tmp_path):
    samples = []
    for trunk in (HALF, AS_USUAL):
        evaluate(a_run(tmp_path / trunk.precision, task, trunk=trunk))
        samples.append((tmp_path / trunk.precision / "samples.jsonl").read_text())
    assert samples[0] != samples[1]


def test_a_trunk_of_no_use_is_refused_before_anything_is_written(tmp_path, capsys):
    options = ["--task", "classes", "--data.name", "mini", "--trainer.accelerator", "cpu"]
    options += ["--model", "mini", "--output", str(tmp_path / "run")]
    swept = ["--sweep", '{"trunk.precision": ["float32", "float16"]}']
    for half in (["--trunk.precision", "float16"], swept):
        assert main(["eval", *options, *half]) == 2
        error = capsys.readouterr().err
        assert "error: trunk: precision: expected float32 or bfloat16 on a CPU" in error
        assert error.count("\n") == 1 and not list(tmp_path.iterdir())


def test_the_machine_is_told_and_decides_nothing(tmp_path):
    first = evaluate(a_run(tmp_path / "run"))
    assert first["machine"] == {
        "accelerator": "cpu", "devices": 1, "num_nodes": 1, "strategy": "auto", "device": "cpu",
        "threads": prediction_threads(), "workers": 0, "skip_bad": False,
    }  # fmt: skip
    other = a_run(tmp_path / "run", skip_bad=True)
    other.data.workers = 2
    again = evaluate(other)
    assert again["machine"] == {**first["machine"], "workers": 2, "skip_bad": True}
    assert {**again, "machine": 0} == {**first, "machine": 0}


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="other files"):
        evaluate(a_run(tmp_path))


def test_results_may_name_files_that_are_not_utf_8(tmp_path):
    settings = {"task": "classes", "data": {"name": "x"}, "model": {"name": "m\udcff"},
                "embedder": {"name": "cls", "options": {}}}  # fmt: skip
    result = write_results(tmp_path, [ImageAnswer("a", [], bad="\udcff.jpg")], {}, {}, settings, {})
    assert json.loads((tmp_path / "result.json").read_text(encoding="utf-8")) == result
    assert "Not read: a: \\udcff.jpg" in (tmp_path / "report.md").read_text(encoding="utf-8")
