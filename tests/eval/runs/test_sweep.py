"""One setting file, several runs."""

from pathlib import Path

import pytest

from eval.run_settings import Data, EmbedderSource, ModelSource, Run
from eval.runs.sweep import expand
from regionlm.datasets.data_errors import DataError


def _run(sweep, **settings):
    return Run("classes", Data("mini", Path("here")), Path("out"), sweep=sweep, **settings)


def test_without_a_sweep_a_run_is_itself():
    run = _run({})
    assert expand(run) == [run]


def test_the_last_setting_changes_fastest_and_the_others_stay():
    options = {"embedder": EmbedderSource("maskinversion", {"lr": 0.5, "size": 64})}
    sweep = {"task": ["classes", "referring"], "embedder.options.steps": [0, 1]}
    runs = expand(_run(sweep, **options))
    assert [(run.task, run.embedder.options["steps"]) for run in runs] == [
        ("classes", 0), ("classes", 1), ("referring", 0), ("referring", 1),
    ]  # fmt: skip
    assert [str(run.output) for run in runs][1:3] == [
        "out/task-classes,steps-1", "out/task-referring,steps-0",
    ]  # fmt: skip
    for run in runs:
        assert run.embedder.options["lr"] == 0.5 and run.data == Data("mini", Path("here"))
        assert run.sweep == {} and run.template is None


def test_values_become_what_the_setting_is():
    runs = expand(_run({"data.root": ["a", None], "limit": ["3"], "embedder": [{"name": "cls"}]}))
    assert [run.data.root for run in runs] == [Path("a"), None]
    assert runs[0].limit == 3 and runs[0].embedder == EmbedderSource("cls", {})


def test_a_name_alone_leaves_the_rest_of_its_group():
    options = {"embedder": EmbedderSource("maskinversion", {"size": 64})}
    runs = expand(_run({"embedder": ["cls", "crop"], "judge": ["mini"]}, **options))
    assert [run.embedder for run in runs] == [
        EmbedderSource("cls", {"size": 64}), EmbedderSource("crop", {"size": 64}),
    ]  # fmt: skip
    assert runs[0].judge == ModelSource("mini")
    assert runs[0].output.name == "embedder-cls,judge-mini"


def test_a_judge_is_made_where_the_run_has_none():
    (first, second) = expand(_run({"judge.name": ["mini", "ViT-B-32"]}))
    assert (first.judge, second.judge) == (ModelSource("mini"), ModelSource("ViT-B-32"))


def test_values_that_read_alike_have_folders_of_their_own():
    templates = ["a/{}", "a_{}", "A {}"]
    names = [run.output.name.casefold() for run in expand(_run({"template": templates}))]
    assert len(set(names)) == 3 and all("/" not in name for name in names)


@pytest.mark.parametrize("name", ["sweep", "output", "model.name.x", "modell", "model.nothing", ""])
def test_what_cannot_vary(name):
    with pytest.raises(DataError, match=f"{name} is not a setting that can vary"):
        expand(_run({name: ["a"]}))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("limit", "x", "sweep, limit x: --limit: expected int, found 'x'"),
        ("data.workers", 1.5, r"sweep, data\.workers 1\.5: "),
        ("judge", 5, "sweep, judge 5: "),
        ("judge.name", None, "sweep, judge.name None: --judge.name: expected text, found None"),
        ("model", {"nothing": 1}, "sweep, model .*nothing"),
    ],
)
def test_a_value_of_the_wrong_type(name, value, message):
    with pytest.raises(DataError, match=message) as caught:
        expand(_run({name: [value]}))
    assert "\n" not in str(caught.value)


AS_GIVEN = ["{}", "a photo: {}", "[{}]", "1", "1.5", "- {}"]


def test_texts_stay_texts():
    assert [run.template for run in expand(_run({"template": AS_GIVEN}))] == AS_GIVEN
    for name in ("embedder.options.file", "decoding.file"):
        options = EmbedderSource("cls", {"other": "1"})
        runs = expand(_run({name: AS_GIVEN}, embedder=options))
        found = [{**run.embedder.options, **run.decoding} for run in runs]
        assert found == [{"other": "1", "file": text} for text in AS_GIVEN]


def test_texts_within_a_group_stay_texts():
    (run,) = expand(_run({"embedder": [{"name": "001", "options": {"file": "1", "size": 1}}]}))
    assert run.embedder == EmbedderSource("001", {"file": "1", "size": 1})
