"""BLEU of a whole corpus at once."""

from collections.abc import Sequence

from eval.metrics import Bleu


def bleu(captions: Sequence[str], references: Sequence[Sequence[str]], n: int = 4) -> float:
    metric = Bleu(n)
    metric.update(captions, references)
    return float(metric.compute()[f"bleu@{n}"])
