"""Scores of texts: against their definitions, and against the field's own scorers."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocoevalcap.bleu.bleu import Bleu as CocoBleu
from pycocoevalcap.cider.cider import Cider as CocoCider
from pycocoevalcap.rouge.rouge import Rouge as CocoRouge

from eval.metrics import Bleu, Cider, RougeL
from eval.metrics.functional import clip_scores, ref_clip_scores
from eval.metrics.references import cider_scores, plain_words, rouge_l_scores
from tests.eval.bleu import bleu

SENTENCES = st.lists(st.sampled_from(["a", "red", "fox", "on", "snow"]), min_size=1, max_size=7)
CORPORA = st.lists(
    st.tuples(SENTENCES, st.lists(SENTENCES, min_size=1, max_size=3)), min_size=2, max_size=5
).map(lambda pairs: [(" ".join(c), [" ".join(r) for r in refs]) for c, refs in pairs])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # As Stanford's tokenizer and COCO's list of punctuation have them.
        ("A man's T-shirt, and shoes!", "a man 's t-shirt and shoes"),
        ("don't walk; it\u2019s 3:30", "do n't walk it 's 3:30"),
        ('a sign that says "stop".', "a sign that says stop"),
        ("black-and-white cat - sleeping", "black-and-white cat sleeping"),
        ("50% off, food & drinks", "50 % off food & drinks"),
        # These are dropped here, and only meant to be there.
        ("two (brown) dogs [left]", "two brown dogs left"),
        (" ?! ", ""),
    ],
)
def test_words(text, expected):
    assert plain_words(text) == expected


def _as_coco(corpus):
    return (
        {i: references for i, (_, references) in enumerate(corpus)},
        {i: [caption] for i, (caption, _) in enumerate(corpus)},
    )


def _split(corpus):
    return [caption for caption, _ in corpus], [references for _, references in corpus]


@settings(max_examples=40, deadline=None)
@given(CORPORA)
def test_scores_are_those_of_the_published_scorers(corpus):
    captions, references = _split(corpus)
    assert (
        cider_scores(captions, references)
        == CocoCider().compute_score(*_as_coco(corpus))[1].tolist()
    )
    assert (
        rouge_l_scores(captions, references)
        == CocoRouge().compute_score(*_as_coco(corpus))[1].tolist()
    )
    theirs = CocoBleu(4).compute_score(*_as_coco(corpus), verbose=0)[0]
    for n, score in enumerate(theirs, 1):
        ours = bleu(captions, references, n)
        # Where no n-gram matches, ours is 0 and theirs up to (1e-15 / 1e-9) ** (1 / 4).
        assert ours == pytest.approx(score, rel=1e-5) if ours else score < 0.04


def _tf_idf(text, documents, n):
    parts = text.split()
    counts = Counter(tuple(parts[i : i + n]) for i in range(len(parts) - n + 1))
    found = [
        {tuple(r.split()[i : i + n]) for r in d for i in range(len(r.split()))} for d in documents
    ]
    return {
        gram: count * math.log(len(documents) / max(1, sum(gram in one for one in found)))
        for gram, count in counts.items()
    }


def _cider_d(caption, references, documents):
    """Equation 1 of the paper with its section on CIDEr-D."""
    total = 0.0
    for n in (1, 2, 3, 4):
        own = _tf_idf(caption, documents, n)
        for reference in references:
            other = _tf_idf(reference, documents, n)
            inner = sum(min(v, other.get(gram, 0)) * other.get(gram, 0) for gram, v in own.items())
            norms = [math.sqrt(sum(v * v for v in side.values())) for side in (own, other)]
            distance = len(caption.split()) - len(reference.split())
            if all(norms):
                total += math.exp(-(distance**2) / 72) * inner / math.prod(norms)
    return 10 * total / 4 / len(references)


def test_cider_is_its_equation():
    corpus = [
        ("a red fox on the left", ["a red fox", "the fox on the left side"]),
        ("a piece of cheese", ["some yellow cheese", "a big piece of cheese"]),
        ("a red car", ["the car"]),
    ]
    captions, references = _split(corpus)
    wanted = [_cider_d(caption, texts, references) for caption, texts in corpus]
    assert cider_scores(captions, references) == pytest.approx(wanted, rel=1e-9)
    assert wanted[0] > wanted[2] > 0


def test_a_perfect_caption_of_every_region_scores_ten():
    texts = ["a red fox on snow", "some cheese by the road", "two green cars at night"]
    assert cider_scores(texts, [[text] for text in texts]) == pytest.approx([10, 10, 10])
    assert rouge_l_scores(texts, [[text] for text in texts]) == [1, 1, 1]
    assert bleu(texts, [[text] for text in texts]) == 1


def test_rouge_l_by_hand():
    # LCS "a fox": precision 2/3 with the first; recall 2/2 with the second.
    (score,) = rouge_l_scores(["a red fox"], [["a big fox sleeping", "a fox"]])
    precision, recall = 2 / 3, 1.0
    assert score == pytest.approx((1 + 1.44) * precision * recall / (recall + 1.44 * precision))


def test_bleu_takes_the_shorter_of_equally_close_references():
    for references in (["a b", "a b c d"], ["a b c d", "a b"]):
        # No brevity penalty against 2 words; against 4 it would be exp(-1/3).
        assert bleu(["a b c"], [references], 1) == 1


def test_what_has_no_word_is_left_out():
    with_blanks = ["a fox", "a cat", "..."], [["a fox", "?"], ["!"], ["snow"]]
    without = ["a fox", ""], [["a fox"], ["snow"]]
    assert rouge_l_scores(*with_blanks) == rouge_l_scores(*without) == [1, 0]
    assert cider_scores(*with_blanks) == cider_scores(*without)
    assert bleu(*with_blanks, 1) == bleu(*without, 1)


@settings(max_examples=20, deadline=None)
@given(CORPORA, st.integers(1, 4))
def test_metrics_are_their_functions(corpus, n):
    captions, references = _split(corpus)
    metrics = [Cider(), RougeL(), Bleu(n)]
    for caption, texts in corpus:
        for metric in metrics:
            metric.update([caption], [texts])
    found = [float(value) for metric in metrics for value in metric.compute().values()]
    wanted = [np.mean(scores(captions, references)) for scores in (cider_scores, rouge_l_scores)]
    assert found == pytest.approx([*wanted, bleu(captions, references, n)], rel=1e-6)


def test_any_text_survives_the_journey_as_bytes():
    odd = ["caf\u00e9 \u0000 \u2028 \n table", '"quotes" \\ \ud83d\ude00', "lone \ud800"]
    metric = Cider()
    metric.update(odd, [[text, "a table"] for text in odd])
    assert float(metric.compute()["cider"]) == pytest.approx(
        np.mean(cider_scores(odd, [[text, "a table"] for text in odd]))
    )


def test_clip_scores_by_hand():
    cosines, told = torch.tensor([0.4, -0.2, 0.1, 1.0]), torch.tensor([1.0, 0.5, -0.3, 1.0])
    torch.testing.assert_close(clip_scores(cosines), torch.tensor([1.0, 0, 0.25, 2.5]))
    torch.testing.assert_close(ref_clip_scores(cosines, told), torch.tensor([1.0, 0, 0, 10 / 7]))
