"""Localized captioning on the bundled benchmark, and its figures from records alone."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from eval.datasets.mini import Mini
from eval.datasets.phrasecut import PhraseCut
from eval.metrics.references import bleu, cider_scores, rouge_l_scores
from eval.tasks import LocalizedCaptioning, caption_metrics
from regionlm.captioner import RegionCaptioner
from regionlm.embedders import make_embedder


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
        assert len(records) == len(sample.texts) == len(sample.masks) + 1
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
        own = [r["text"] for r in records if r["mask"] == record["mask"]]
        texts = judge.embed_texts([f"A photo depicts {text}" for text in (words, *own)])
        cosine = torch.nn.functional.cosine_similarity
        assert record["clip_cosine"] == pytest.approx(cosine(texts[:1], picture).item(), abs=2e-6)
        nearest = cosine(texts[:1], texts[1:]).max().item()
        assert record["reference_cosine"] == pytest.approx(nearest, abs=2e-6)


def test_clip_score_is_the_mean_of_what_the_records_say(answers):
    regions = {(i, r["mask"]): r for i, a in enumerate(answers) for r in a}.values()
    wanted = np.mean([2.5 * max(record["clip_cosine"], 0) for record in regions])
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
        "mask": "m", "text": "a fox", "caption": "a fox.", "correct": correct, "expressions": 1,
        **more,
    }  # fmt: skip


def test_images_in_coco_are_told_apart():
    inside = [[_record(True, coco_id=7)], [_record(False, coco_id=8)]]
    outside = [[_record(True, coco_id=None)]]
    figures = caption_metrics([*inside, *outside])
    assert (figures["micro_in_coco"], figures["micro_not_in_coco"]) == (0.5, 1.0)
    assert figures["micro"] == pytest.approx(2 / 3)
    # Where all are alike, or the dataset says nothing, there is nothing to tell.
    for records in (inside, outside, [[_record(True)]]):
        assert not any("coco" in name for name in caption_metrics(records))


@pytest.mark.filterwarnings("ignore::eval.errors.DataWarning")
def test_phrasecut_says_which_images_are_in_coco(captioner, build):
    dataset = PhraseCut(build.phrasecut())
    embedder = make_embedder("cls", captioner.backbone)
    task = LocalizedCaptioning(captioner, embedder, captioner.backbone, clipscore=False)
    records = [task.answer(dataset[i]) for i in range(len(dataset))]
    assert {id: {r["coco_id"] for r in rs} for id, rs in zip("123", records, strict=True)} == {
        "1": {None}, "2": {77}, "3": {None},
    }  # fmt: skip
    assert {"micro_in_coco", "micro_not_in_coco"} <= set(caption_metrics(records))
