"""Class retrieval: exact classes, and those of a hierarchy."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from eval.run_settings import Data, EmbedderSource, Machines, Run
from eval.runs.evaluate import evaluate
from eval.tasks import ClassRetrieval, class_metrics
from regionlm.captioner import RegionCaptioner
from regionlm.datasets.mini import Mini
from regionlm.embedders import RegionEmbeddings


@pytest.fixture(scope="module")
def backbone():
    return RegionCaptioner.from_pretrained("mini", device="cpu", offline=True).backbone


def test_relatives_count_in_a_column_of_their_own(backbone):
    names = ["animal", "cat", "dog", "pet"]  # cat, dog and pet are animals, a cat is a pet
    relatives = ({1, 2, 3}, {0, 3}, {0}, {0, 1})
    words = torch.nn.functional.normalize(backbone.embed_texts(names), dim=1)
    dog = words[2]
    order = [names[i] for i in (words @ dog).argsort(descending=True)]
    assert order[0] == "dog"

    def embed(image, masks):
        return RegionEmbeddings(dog.expand(len(masks), -1), dog)

    sample = replace(
        Mini()[0],
        masks=np.ones((4, 8, 8), bool),
        mask_ids=tuple("0123"),
        labels=(0, 1, 2, 3),
    )
    records = ClassRetrieval(backbone, embed, names, "{}", relatives).answer(sample)
    for record, near in zip(records, relatives, strict=True):
        right = {record["label"], *(names[label] for label in near)}
        assert record["rank"] == order.index(record["label"])
        assert record["rank_tolerant"] == min(order.index(name) for name in right)
    figures = class_metrics([records[:1], [], records[1:]])
    assert (figures["acc@1"], figures["acc@1_tolerant"]) == (1 / 4, 2 / 4)
    (plain, *_) = ClassRetrieval(backbone, embed, names, "{}").answer(sample)
    assert "rank_tolerant" not in plain and "acc@1_tolerant" not in class_metrics([[plain]])


@pytest.mark.filterwarnings("ignore::regionlm.datasets.data_errors.DataWarning")
def test_a_run_on_open_images_tells_both(build, tmp_path):
    root = build.openimages()
    kinds = {"LabelName": "/m/01g317", "Subcategory": [{"LabelName": "/m/04yx4"}]}
    (root / "bbox_labels_600_hierarchy.json").write_text(json.dumps(kinds))
    run = Run(
        "classes",
        Data("openimages", root, workers=0),
        tmp_path / "run",
        embedder=EmbedderSource("cls"),
        trainer=Machines(accelerator="cpu", progress=False),
    )
    figures = evaluate(run)["metrics"]
    assert figures["acc@1_tolerant"] == 1 >= figures["acc@1"]  # there is nothing but people
