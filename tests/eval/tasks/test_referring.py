"""Referring expression retrieval: what the records say of ties."""

from dataclasses import replace

import pytest
import torch

from eval.datasets.mini import Mini
from eval.tasks import ReferringRetrieval, referring_metrics
from regionlm.captioner import RegionCaptioner
from regionlm.embedders import RegionEmbeddings, make_embedder

TOP_K = (1, 5, 10)


@pytest.fixture(scope="module")
def backbone():
    return RegionCaptioner.from_pretrained("mini", device="cpu", offline=True).backbone


@pytest.fixture(scope="module")
def samples():
    dataset = Mini()
    return [dataset[i] for i in range(4)]


def _records(backbone, embedder, samples):
    task = ReferringRetrieval(backbone, embedder)
    return [task.answer(sample) for sample in samples]


def test_one_vector_for_all_masks_scores_chance(backbone, samples):
    """The figures that tell a split: sum of min(k, n) over sum of n, n the masks of an image."""
    records = _records(backbone, make_embedder("cls", backbone), samples)
    figures = referring_metrics(records)
    counts = [len(sample.masks) for sample in samples]
    assert counts == [len(sample.texts) for sample in samples] and len(set(counts)) > 1
    for k in TOP_K:
        wanted = sum(min(k, n) for n in counts) / sum(counts)
        assert figures[f"chance_acc@{k}"] == pytest.approx(wanted, rel=1e-12)
        assert figures[f"expected_acc@{k}"] == figures[f"chance_acc@{k}"]
    for sample, answers in zip(samples, records, strict=True):
        assert all(r["above"] == 0 and r["tied"] == r["masks"] for r in answers)
        # The tie rule: the earlier mask.
        assert [r["rank"] for r in answers] == list(sample.targets)


@pytest.mark.parametrize("masks", [2, 5, 9, 30])
def test_equal_vectors_tie_to_the_last_bit(backbone, samples, masks):
    """A matrix product gives equal columns scores that differ in the last bit."""
    vectors = torch.randn(3, backbone.dim, generator=torch.Generator().manual_seed(0))
    rows = torch.arange(masks) % 3

    def embed(image, regions):
        return RegionEmbeddings(vectors[rows[: len(regions)]], vectors[0])

    sample = samples[0]
    many = replace(
        sample,
        masks=sample.masks[[0] * masks],
        mask_ids=tuple(map(str, range(masks))),
        targets=(0,) * len(sample.texts),
    )
    (answers,) = _records(backbone, embed, [many])
    assert {record["tied"] for record in answers} == {int((rows == 0).sum())}


def test_without_ties_the_expected_accuracy_is_the_accuracy(backbone, samples):
    records = _records(backbone, make_embedder("masked_crop", backbone), samples)
    assert all(r["tied"] == 1 and r["rank"] == r["above"] for rs in records for r in rs)
    figures = referring_metrics(records)
    assert all(figures[f"expected_acc@{k}"] == figures[f"acc@{k}"] for k in TOP_K)
    assert figures["chance_acc@1"] < figures["acc@1"]
