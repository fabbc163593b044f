"""Where the models of a run come from."""

import json
import shutil

import pytest
import torch

from eval.run_settings import Data, EmbedderSource, Machines, ModelSource, Run
from eval.runs.build import build_task, check_models
from eval.runs.evaluate import evaluate
from regionlm.datasets import open_dataset
from regionlm.errors import ModelError
from regionlm.pretrained.bundle import BACKBONE, MINI

CPU = torch.device("cpu")
FOLDER = str(MINI / BACKBONE)


def _run(output, task, model, **settings):
    machines = Machines(accelerator="cpu", progress=False)
    data, embedder = Data("mini", workers=0), EmbedderSource("crop", {"size": 64})
    return Run(
        task, data, output, model, embedder, trainer=machines, limit=2, clipscore=False, **settings
    )


@pytest.mark.parametrize("task", ["classes", "referring"])
def test_the_folder_of_a_backbone_is_a_model(task, tmp_path):
    for name in ("mini", FOLDER):
        evaluate(_run(tmp_path / f"{name == 'mini'}", task, ModelSource(name)))
    found = [(tmp_path / f"{part}" / "samples.jsonl").read_text() for part in (True, False)]
    assert found[0] == found[1]
    digests = [
        json.loads((tmp_path / f"{part}" / "result.json").read_text())["settings"]["digests"]
        for part in (True, False)
    ]
    assert digests[0]["model"] != digests[1]["model"]


def test_the_folder_of_a_backbone_is_a_judge(tmp_path):
    run = _run(tmp_path / "run", "captioning", ModelSource(), judge=ModelSource(FOLDER))
    assert evaluate(run)["settings"]["digests"]["judge"]


@pytest.mark.parametrize(
    ("task", "option"), [("classes", "model"), ("referring", "model"), ("captioning", "judge")]
)
@pytest.mark.parametrize("name", ["ViT-B-32", "ViT-B/32"])
def test_an_open_clip_name_needs_weights(task, option, name, tmp_path):
    run = _run(tmp_path / "run", task, ModelSource())
    setattr(run, option, ModelSource(name))
    with pytest.raises(ModelError, match=rf"{name}/TAG .*openai.*--{option}\.pretrained") as caught:
        check_models(run)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["ViT-B-32/openai", "ViT-B/32/openai", FOLDER, "mini"])
def test_models_that_are_found_before_they_are_loaded(name, tmp_path):
    check_models(_run(tmp_path / "run", "classes", ModelSource(name, offline=True)))


def test_an_open_clip_name_may_stand_for_files_put_by_hand(tmp_path, monkeypatch):
    monkeypatch.setenv("REGIONLM_MODELS", str(tmp_path))
    shutil.copytree(FOLDER, tmp_path / "ViT-B-32")
    run = _run(tmp_path / "run", "classes", ModelSource("ViT-B-32"))
    assert evaluate(run)["counts"]["images"] == 2


def test_a_backbone_brings_its_own_weights(tmp_path):
    run = _run(tmp_path / "run", "classes", ModelSource(FOLDER, pretrained="openai"))
    with pytest.raises(ModelError, match="leave out pretrained"):
        build_task(run, open_dataset("mini", None), CPU)
