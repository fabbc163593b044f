"""A finished run is not taken for one of other files."""

import json
import shutil

import pytest

from eval.run_settings import Data, EmbedderSource, Machines, ModelSource, Run, SamSource
from eval.runs.evaluate import evaluate
from eval.runs.run_digests import run_digests
from regionlm.datasets import open_dataset
from regionlm.datasets.data_errors import DataError
from regionlm.datasets.mini import FOLDER
from regionlm.errors import InputError
from regionlm.pretrained.bundle import MINI


@pytest.fixture
def run(tmp_path):
    model, data = tmp_path / "model", tmp_path / "data"
    shutil.copytree(MINI, model)
    shutil.copytree(FOLDER, data)
    return Run(
        "classes", Data("mini", data, workers=0), tmp_path / "run", ModelSource(str(model)),
        EmbedderSource("cls"), trainer=Machines("cpu", progress=False), limit=2,
    )  # fmt: skip


def _digests(run):
    return run_digests(run, open_dataset(run.data.name, run.data.root))


def _changed(path, size=0):
    """One more byte at the end, or one changed in the middle."""
    data = bytearray(path.read_bytes())
    if size:
        data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data) + (b"" if size else b"\n"))


@pytest.mark.parametrize(
    ("part", "file", "same_size"),
    [
        ("model", "model/backbone/open_clip_model.safetensors", True),
        ("model", "model/config.json", False),
        ("data", "data/refer_test.json", False),
        ("data", "data/classes.json", False),
    ],
)
def test_a_changed_file_is_another_run(part, file, same_size, run, tmp_path):
    evaluate(run)
    _changed(tmp_path / file, same_size)
    with pytest.raises(InputError, match=rf"digests\.{part} was \w+, is \w+\); give another"):
        evaluate(run)


def test_what_no_answer_depends_on_is_the_same_run(run, tmp_path):
    first = evaluate(run)
    (tmp_path / "model/README.md").write_text("Another card.")
    assert evaluate(run) == first
    assert set(first["settings"]["digests"]) == {"data", "model"}


def test_checkpoints_and_sams_count_where_they_are_used(run, tmp_path):
    files = [tmp_path / name for name in ("alpha.pth", "weights.pt", "judge.pt")]
    for file in files:
        file.write_bytes(b"some weights")
    (tmp_path / "sam").mkdir()
    (tmp_path / "sam/model.safetensors").write_bytes(b"some more")
    run.embedder = EmbedderSource("alphaclip", {"checkpoint": str(files[0]), "quick_gelu": True})
    run.model = ModelSource("ViT-B-32", str(files[1]))
    run.judge = ModelSource("ViT-L-14", str(files[2]))
    run.sam = SamSource(str(tmp_path / "sam"))
    assert set(_digests(run)) == {"data", "model", "embedder.checkpoint"}
    run.task, run.masks = "captioning", "box_sam"
    before = _digests(run)
    assert set(before) == {"data", "model", "embedder.checkpoint", "judge", "sam"}
    for file in (*files, tmp_path / "sam/model.safetensors"):
        _changed(file)
    after = _digests(run)
    assert [name for name in before if before[name] == after[name]] == ["data"]


def test_names_of_published_weights_have_no_digest(run):
    run.model = ModelSource("ViT-B-16", "openai")
    assert set(_digests(run)) == {"data"}


@pytest.mark.parametrize("name", [None, ""])
def test_a_model_without_a_name_is_one_line(name, run):
    run.task, run.judge = "captioning", ModelSource(name)
    with pytest.raises(DataError, match=r"judge\.name: expected the name or folder of a model"):
        _digests(run)


def test_digests_are_no_columns_of_a_table(run, tmp_path):
    from eval.runs.compare import compare, group_runs, read_runs

    evaluate(run)
    other = json.loads((tmp_path / "run/result.json").read_text())
    other["settings"]["digests"]["model"] = "0" * 16
    (tmp_path / "other").mkdir()
    (tmp_path / "other/result.json").write_text(json.dumps(other))
    text = compare(group_runs(read_runs([tmp_path / "run", tmp_path / "other"])))
    assert "0" * 16 not in text and "| run |" in text
