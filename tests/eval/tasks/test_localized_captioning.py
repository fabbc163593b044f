"""Localized captioning on the bundled benchmark, and its figures from records alone."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from eval.metrics.references import cider_scores, rouge_l_scores
from eval.tasks import LocalizedCaptioning, caption_metrics
from prefix_models.decoding.options import Generation
from regionlm.captioner import RegionCaptioner
from regionlm.datasets.mini import Mini
from regionlm.datasets.phrasecut import PhraseCut
from regionlm.embedders import make_embedder
from tests.eval.bleu import bleu


@pytest.fixture(scope="module")
def captioner():
    return RegionCaptioner.from_pretrained("mini", device="cpu", offline=True)


@pytest.fixture(scope="module")
def samples():
    """Two images of the benchmark; in each a second expression means the first region."""
    found = []
    for sample in (Mini()[1], Mini()[2]):
        found.append(
            replace(
                sample,
                texts=(*sample.texts, "something else entirely"),
                text_ids=(*sample.text_ids, "again"),
                targets=(*sample.targets, sample.targets[0]),
            )
        )
    return found


@pytest.fixture(scope="module")
def answers(captioner, samples):
    embedder = make_embedder("masked_crop", captioner.backbone)
    task = LocalizedCaptioning(captioner, embedder, captioner.backbone)
    return [task.answer(sample) for sample in samples]


def test_a_region_counts_once_with_all_its_expressions(samples, answers):
    captions, references = [], []
    for sample, records in zip(samples, answers, strict=True):
        assert len(records) == len(sample.masks) == len(sample.texts) - 1
        said = {record["mask"]: record["caption"] for record in records}
        for target in dict.fromkeys(sample.targets):
            captions.append(said[sample.mask_ids[target]])
            pairs = zip(sample.texts, sample.targets, strict=True)
            references.append([text for text, other in pairs if other == target])
    assert sorted(map(len, references))[-3:] == [1, 2, 2]
    figures = caption_metrics(answers)
    assert figures["cider"] == pytest.approx(np.mean(cider_scores(captions, references)))
    assert figures["rouge_l"] == pytest.approx(np.mean(rouge_l_scores(captions, references)))
    for n in range(1, 5):
        assert figures[f"bleu@{n}"] == pytest.approx(bleu(captions, references, n), rel=1e-6)
    assert 0 < figures["bleu@1"] <= 1 and 0 < figures["cider"] <= 10


def test_figures_do_not_depend_on_the_order_of_the_images(answers):
    many = [[{**record, "mask": f"{i}"} for i, record in enumerate(a)] for a in answers * 3]
    for i, records in enumerate(many):
        for record in records:
            record["clip_cosine"] += i / 97
    wanted = caption_metrics(many)
    random.Random(0).shuffle(many)
    assert caption_metrics(many) == wanted


def test_clip_score_looks_at_the_crop_of_the_region(captioner, samples, answers):
    judge = captioner.backbone
    sample, records = samples[0], answers[0]
    for record in records:
        mask = sample.masks[sample.mask_ids.index(record["mask"])]
        rows, columns = np.nonzero(mask)
        box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        crop = sample.image.crop([int(edge) for edge in box])
        picture = judge.embed_images(judge.preprocess(crop)[None])
        words = record["caption"].rstrip(". ")
        texts = judge.embed_texts([f"A photo depicts {text}" for text in (words, *record["texts"])])
        cosine = torch.nn.functional.cosine_similarity
        assert record["clip_cosine"] == pytest.approx(cosine(texts[:1], picture).item(), abs=2e-6)
        nearest = cosine(texts[:1], texts[1:]).max().item()
        assert record["reference_cosine"] == pytest.approx(nearest, abs=2e-6)


def test_clip_score_is_the_mean_of_what_the_records_say(answers):
    wanted = np.mean([2.5 * max(r["clip_cosine"], 0) for records in answers for r in records])
    assert caption_metrics(answers)["clipscore"] == pytest.approx(wanted)


def test_without_clip_score_nothing_else_changes(captioner, samples, answers):
    embedder = make_embedder("masked_crop", captioner.backbone)
    task = LocalizedCaptioning(captioner, embedder, captioner.backbone, clipscore=False)
    plain = [task.answer(sample) for sample in samples]
    looks = {"clip_cosine", "reference_cosine"}
    assert plain == [[{k: v for k, v in r.items() if k not in looks} for r in a] for a in answers]
    figures, with_looks = caption_metrics(plain), caption_metrics(answers)
    assert set(with_looks) - set(figures) == {"clipscore", "refclipscore"}
    assert all(with_looks[name] == value for name, value in figures.items())


def _record(correct, **more):
    return {
        "mask": "m", "texts": ["a fox"], "caption": "a fox.", "rank": int(not correct),
        "expressions": 1, **more,
    }  # fmt: skip


def _saying(monkeypatch, captioner, *captions):
    """The captioner with these captions for the regions of an image."""

    def generate(prefixes, **decoding):
        assert len(prefixes) == len(captions)
        return [Generation(text) for text in captions]

    monkeypatch.setattr(captioner.prefix_model, "generate", generate)


def _answer(captioner, sample):
    embedder = make_embedder("cls", captioner.backbone)
    task = LocalizedCaptioning(captioner, embedder, captioner.backbone, clipscore=False)
    return task.answer(sample)


def _meaning(sample, *texts):
    """The sample with other texts: pairs of a text and the mask it means."""
    ids = tuple(str(i) for i in range(len(texts)))
    return replace(
        sample, texts=tuple(t for t, _ in texts), text_ids=ids, targets=tuple(m for _, m in texts)
    )


THREE = ("a red fox", "the animal on the left", "fox")


def test_any_expression_of_its_region_is_right(captioner, samples, monkeypatch):
    sample = _meaning(samples[0], *((text, 0) for text in THREE), ("a blue lamp", 1))
    for perfect in THREE:
        _saying(monkeypatch, captioner, f"{perfect}.", "a blue lamp")
        records = _answer(captioner, sample)
        assert [(r["nearest"], r["rank"]) for r in records] == [(perfect, 0), ("a blue lamp", 0)]
        assert records[0]["texts"] == list(THREE) and records[0]["text_ids"] == ["0", "1", "2"]
        assert caption_metrics([records])["micro"] == caption_metrics([records])["macro"] == 1
    _saying(monkeypatch, captioner, "a blue lamp", "a blue lamp")
    records = _answer(captioner, sample)
    assert records[0]["rank"] > 0 and records[1]["rank"] == 0
    # Two regions, one of them right: their three expressions and one do not weigh.
    assert caption_metrics([records])["micro"] == 0.5


def test_an_image_of_one_region_has_nothing_to_choose_between(captioner, samples, monkeypatch):
    sample = _meaning(samples[0], *((text, 0) for text in THREE))
    _saying(monkeypatch, captioner, "something else")
    alone = _answer(captioner, sample)
    assert len(alone) == 1
    other = _meaning(samples[1], ("a fox", 0), ("a blue lamp", 1), ("a fox", 2))
    _saying(monkeypatch, captioner, "a blue lamp", "a blue lamp", "a fox")
    several = _answer(captioner, other)
    assert [r["rank"] for r in several] == [1, 0, 0]  # equal texts are one expression
    figures = caption_metrics([alone, several])
    assert (figures["micro"], figures["micro_multi"]) == (3 / 4, 2 / 3)


def test_images_in_coco_are_told_apart():
    inside = [[_record(True, coco_id=7)], [_record(False, coco_id=8)]]
    outside = [[_record(True, coco_id=None)]]
    figures = caption_metrics([*inside, *outside])
    assert (figures["micro_in_coco"], figures["micro_not_in_coco"]) == (0.5, 1.0)
    assert figures["micro"] == pytest.approx(2 / 3)
    # Where all are alike, or the dataset says nothing, there is nothing to tell.
    for records in (inside, outside, [[_record(True)]]):
        assert not any("coco" in name for name in caption_metrics(records))


@pytest.mark.filterwarnings("ignore::regionlm.datasets.data_errors.DataWarning")
def test_phrasecut_says_which_images_are_in_coco(captioner, build):
    dataset = PhraseCut(build.phrasecut())
    embedder = make_embedder("cls", captioner.backbone)
    task = LocalizedCaptioning(captioner, embedder, captioner.backbone, clipscore=False)
    records = [task.answer(dataset[i]) for i in range(len(dataset))]
    assert {id: {r["coco_id"] for r in rs} for id, rs in zip("123", records, strict=True)} == {
        "1": {None}, "2": {77}, "3": {None},
    }  # fmt: skip
    assert {"micro_in_coco", "micro_not_in_coco"} <= set(caption_metrics(records))
