"""What result.json counts besides figures."""

import pytest

from eval.run_settings import Data, EmbedderSource, Machines, Run
from eval.runs.evaluate import evaluate


def _counts(task, name, root, output):
    machines = Machines(accelerator="cpu", progress=False)
    data = Data(name, root, workers=0)
    run = Run(task, data, output, embedder=EmbedderSource("cls"), trainer=machines, clipscore=False)
    return evaluate(run)["counts"]


@pytest.mark.filterwarnings("ignore::regionlm.datasets.data_errors.DataWarning")
@pytest.mark.parametrize(("task", "queries"), [("captioning", 5), ("referring", 5)])
def test_expressions(task, queries, build, tmp_path):
    """Image 1 has a phrase twice, a phrase of a region without a pixel and one more; 2 and 3 have
    one phrase each."""
    found = _counts(task, "phrasecut", build.phrasecut(), tmp_path / "run")
    wanted = {"images": 3, "queries": queries, "dropped": 1, "duplicate_texts": 1}
    wanted |= {"single_text_images": 2, "replaced_masks": 0}
    assert {name: found[name] for name in wanted} == wanted


@pytest.mark.filterwarnings("ignore::regionlm.datasets.data_errors.DataWarning")
def test_a_region_with_several_expressions_is_one_query_of_captioning(build, tmp_path):
    counts = _counts("captioning", "refcoco", build.refcoco(), tmp_path / "captioning")
    asked = _counts("referring", "refcoco", build.refcoco(), tmp_path / "referring")
    assert counts["queries"] == 2 and asked["queries"] == 4
    assert counts["dropped"] == asked["dropped"] == 1  # a region of two points


@pytest.mark.filterwarnings("ignore::regionlm.datasets.data_errors.DataWarning")
def test_classes_have_no_expressions_to_count(build, tmp_path):
    counts = _counts("classes", "coco", build.coco(), tmp_path / "run")
    assert counts["dropped"] == 1 and not any("text" in name for name in counts)
