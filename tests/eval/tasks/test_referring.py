"""Referring expression retrieval: what the records say of ties."""

from dataclasses import replace

import pytest
import torch

from eval.tasks import ReferringRetrieval, referring_metrics
from regionlm.captioner import RegionCaptioner
from regionlm.datasets.mini import Mini
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


def _placed(backbone, sample, order, *texts):
    """Records of a sample with other texts, pairs of a text and the mask it means; each mask's
    vector is that of one of the texts, by position."""
    words = backbone.embed_texts([text for text, _ in texts])
    changed = replace(
        sample,
        texts=tuple(text for text, _ in texts),
        text_ids=tuple(map(str, range(len(texts)))),
        targets=tuple(mask for _, mask in texts),
        masks=sample.masks[: len(order)],
        mask_ids=sample.mask_ids[: len(order)],
    )
    task = ReferringRetrieval(backbone, lambda *shown: RegionEmbeddings(words[order], words[0]))
    return task.answer(changed)


THREE = (("a red fox", 0), ("a whale", 0), ("an old lamp", 0), ("a truck on the snow", 1))


def test_a_mask_with_several_expressions_counts_once(backbone, samples):
    """It finds any of them, and is no worse for having more."""
    for own in range(3):
        records = _placed(backbone, samples[1], [own, 3], *THREE)
        assert {r["rank_mask_to_text"] for r in records} == {0}
    wrong = _placed(backbone, samples[1], [3, 3], *THREE)
    assert {r["mask"]: r["rank_mask_to_text"] for r in wrong} == {
        samples[1].mask_ids[0]: 1, samples[1].mask_ids[1]: 0,
    }  # fmt: skip
    assert referring_metrics([wrong])["mask_to_text_acc@1"] == 0.5


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0), (2, 0, 1)])
def test_regions_of_equal_expressions_share_their_rank(backbone, samples, order):
    """Wherever in the file they stand, and as one candidate for the other regions."""
    texts = [("a red fox", 0), ("a red fox", 1), ("a truck on the snow", 2)]
    placed = [texts[i] for i in order]
    fox, truck = order.index(0), order.index(2)
    right = _placed(backbone, samples[2], [fox, fox, truck], *placed)
    assert [r["rank_mask_to_text"] for r in right] == [0, 0, 0]
    wrong = _placed(backbone, samples[2], [truck, truck, fox], *placed)
    assert [r["rank_mask_to_text"] for r in wrong] == [1, 1, 1]
    figures = referring_metrics([right, wrong])
    assert figures["mask_to_text_acc@1"] == 0.5 and figures["mask_to_text_acc@5"] == 1
    # Text to mask can't be right for both: one of the two regions is the first.
    assert sorted(r["rank"] for r in right) == [0, 0, 1]


def test_objects_can_count_alike_whatever_the_number_of_their_expressions(backbone, samples):
    records = _placed(backbone, samples[1], [0, 3], *THREE)
    for record, rank in zip(records, (0, 1, 1, 0), strict=True):
        record["rank"] = rank
    figures = referring_metrics([records])
    assert figures["acc@1"] == 2 / 4 and figures["acc@1_per_object"] == (1 / 3 + 1) / 2
    single = [[record] for record in records]  # as many images, an object and a text in each
    assert "acc@1_per_object" not in referring_metrics(single)


def test_images_with_a_single_mask_can_be_left_out(backbone, samples):
    alone = _placed(backbone, samples[1], [0], ("a whale", 0))
    several = _placed(backbone, samples[1], [1, 0], ("a whale", 0), ("a truck", 1))
    figures = referring_metrics([alone, several])
    assert figures["acc@1"] == figures["mask_to_text_acc@1"] == 1 / 3
    assert figures["acc@1_multi"] == figures["mask_to_text_acc@1_multi"] == 0
    assert figures["miou_multi"] < figures["miou"] and figures["acc@5_multi"] == 1
    # Where all images have several, there is nothing to leave out.
    assert not any("multi" in name for name in referring_metrics([several, several]))


def test_without_ties_the_expected_accuracy_is_the_accuracy(backbone, samples):
    records = _records(backbone, make_embedder("masked_crop", backbone), samples)
    assert all(r["tied"] == 1 and r["rank"] == r["above"] for rs in records for r in rs)
    figures = referring_metrics(records)
    assert all(figures[f"expected_acc@{k}"] == figures[f"acc@{k}"] for k in TOP_K)
    assert figures["chance_acc@1"] < figures["acc@1"]
