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

# What COCO's evaluation drops, or means to: brackets it spells in capitals and so never meets.
_PUNCTUATION = {*"'`()[]{}.?!,:;-", "''", "``", "--", "..."}


@lru_cache(maxsize=1 << 16)
def plain_words(text: str) -> str:
    """Lower-case words of a text with a space between, punctuation dropped.

    They are those of the Penn Treebank: "a man's T-shirt." gives "a man 's t-shirt".
    """
    tokens = _tokenizer().tokenize(text.translate(_STRAIGHT_QUOTES).lower())
    return " ".join(token for token in tokens if token not in _PUNCTUATION)


def in_words(
    captions: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[list[str], list[list[str]]]:
    """Captions and their references as the scorers read them.

    References without a word are left out, and captions that have none left.

    Args:
        captions: M texts.
        references: for each, any number of texts.
    """
    pairs = [
        (plain_words(caption), [said for said in map(plain_words, texts) if said])
        for caption, texts in zip(captions, references, strict=True)
    ]
    kept = [(caption, texts) for caption, texts in pairs if texts]
    return [caption for caption, _ in kept], [texts for _, texts in kept]


def cider_scores(captions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """CIDEr-D (Vedantam et al. 2015) of each caption, [0, 10]: 1.05 is what papers call 105.

    Words weigh less the more captions have them in their references, so these must be all of the
    corpus; of a single one every score is 0. Arguments as in ``in_words``.
    """
    from pycocoevalcap.cider.cider import Cider

    return _scores(Cider(), captions, references)


def rouge_l_scores(captions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """ROUGE-L of each caption, [0, 1], as COCO's evaluation has it: best precision and best recall
    among its references, beta 1.2. Arguments as in ``in_words``.
    """
    from pycocoevalcap.rouge.rouge import Rouge

    return _scores(Rouge(), captions, references)


def by_length(references: Sequence[Sequence[str]]) -> list[list[str]]:
    """Each caption's references, fewest words first.

    Of two lengths equally close to the caption's, BLEU's penalty counts the shorter; torchmetrics
    takes the one that comes first.
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
