"""Captions against reference texts, as pure functions: CIDEr-D and ROUGE-L, and their words.

The scorers are those of `pycocoevalcap`, the code behind the field's published numbers; only its
Python parts are used. NLTK's tokenizer, which follows the same rules and downloads nothing, stands
in for the one in Java.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

_STRAIGHT_QUOTES = str.maketrans("\u2018\u2019\u201c\u201d", "''\"\"")

# What COCO's evaluation drops. It means to drop brackets, too, but spells them as "-LRB-" in
# capitals, which lower-case texts never contain.
_PUNCTUATION = {*"'`()[]{}.?!,:;-", "''", "``", "--", "..."}


@lru_cache(maxsize=1 << 16)
def plain_words(text: str) -> str:
    """Return the lower-case words of a text, joined by spaces, without punctuation.

    Words are those of the Penn Treebank: "a man's T-shirt." gives "a man 's t-shirt".
    """
    tokens = _tokenizer().tokenize(text.translate(_STRAIGHT_QUOTES).lower())
    return " ".join(token for token in tokens if token not in _PUNCTUATION)


def in_words(
    captions: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[list[str], list[list[str]]]:
    """Return captions and their references as the scorers read them.

    References without words are left out, and so are captions without references.

    Args:
        captions: M texts.
        references: any number of texts for each caption.
    """
    pairs = [
        (plain_words(caption), [said for said in map(plain_words, texts) if said])
        for caption, texts in zip(captions, references, strict=True)
    ]
    kept = [(caption, texts) for caption, texts in pairs if texts]
    return [caption for caption, _ in kept], [texts for _, texts in kept]


def cider_scores(captions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """Return CIDEr-D (Vedantam et al. 2015) of each caption, [0, 10]; papers call 1.05 a 105.

    A word weighs less the more captions have it in their references. So pass the whole corpus; the
    score of a single caption is 0. Arguments as in ``in_words``.
    """
    from pycocoevalcap.cider.cider import Cider

    return _scores(Cider(), captions, references)


def rouge_l_scores(captions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """Return ROUGE-L of each caption, [0, 1]; arguments as in ``in_words``.

    As in COCO's evaluation, it combines the best precision and the best recall among the
    references, with beta 1.2.
    """
    from pycocoevalcap.rouge.rouge import Rouge

    return _scores(Rouge(), captions, references)


def by_length(references: Sequence[Sequence[str]]) -> list[list[str]]:
    """Sort the references of each caption by their number of words.

    If two lengths are equally close to the caption's, BLEU's brevity penalty takes the shorter one,
    but torchmetrics the first.
    """
    return [sorted(texts, key=lambda text: len(plain_words(text).split())) for texts in references]


def _scores(
    scorer: Any, captions: Sequence[str], references: Sequence[Sequence[str]]
) -> list[float]:
    told, meant = in_words(captions, references)
    if not told:
        return []
    _, scores = scorer.compute_score(
        dict(enumerate(meant)), {i: [text] for i, text in enumerate(told)}
    )
    return [float(score) for score in scores]


@cache
def _tokenizer() -> Any:
    from nltk.tokenize import TreebankWordTokenizer

    return TreebankWordTokenizer()
