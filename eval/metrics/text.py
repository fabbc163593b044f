"""CIDEr, BLEU and ROUGE-L of captions against reference texts. Not in the paper."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from eval.metrics.functional import exact_mean
from eval.metrics.references import by_length, cider_scores, in_words, rouge_l_scores
from eval.metrics.table_metric import TableMetric
from regionlm.extras import extra

with extra("eval"):
    from torchmetrics.text import BLEUScore


class Cider(TableMetric):
    """Mean CIDEr-D over captions; the references of a caption are one document of the corpus.

    >>> metric = Cider()
    >>> metric.update(["a red fox"], [["a red fox", "the fox on the left"]])
    >>> metric.update(["a cheese"], [["some cheese"]])
    >>> round(float(metric.compute()["cider"]), 3)
    2.629
    """

    plot_upper_bound = 10.0

    texts: list[Tensor]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # The weights of words need all texts, but only tensors travel between processes: so the
        # texts are kept as bytes of JSON lines.
        self.add_column("texts", torch.uint8)

    def update(self, captions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
        """Add captions and the references of each, as in ``cider_scores``."""
        for caption, texts in zip(captions, references, strict=True):
            line = bytearray(json.dumps([caption, list(texts)]).encode() + b"\n")
            self.append("texts", torch.frombuffer(line, dtype=torch.uint8))

    def compute(self) -> dict[str, Tensor]:
        """Return ``cider`` in [0, 10], float64 (papers call 1.05 a 105); NaN of no caption."""
        lines = self.column("texts").cpu().numpy().tobytes().splitlines()
        captions, references = zip(*map(json.loads, lines), strict=True) if lines else ((), ())
        return self.scalars({"cider": exact_mean(cider_scores(captions, references))})


class RougeL(TableMetric):
    """Mean ROUGE-L over captions.

    >>> metric = RougeL()
    >>> metric.update(["a red fox"], [["a red fox", "the fox on the left"]])
    >>> metric.update(["a cheese"], [["some cheese"]])
    >>> float(metric.compute()["rouge_l"])
    0.75
    """

    scores: list[Tensor]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.add_column("scores", torch.float64)

    def update(self, captions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
        """Add captions and the references of each, as in ``rouge_l_scores``."""
        found = rouge_l_scores(captions, references)
        self.append("scores", torch.tensor(found, dtype=torch.float64))

    def compute(self) -> dict[str, Tensor]:
        """Return ``rouge_l`` in [0, 1], float64; NaN of no caption."""
        return self.scalars({"rouge_l": exact_mean(self.column("scores"))})


class Bleu(TableMetric, BLEUScore):  # type: ignore[misc]  # plot takes a dict, as compute gives
    """BLEU of all captions together: torchmetrics' ``BLEUScore`` on our words, in float64.

    Args:
        n_gram: longest n-grams.

    >>> metric = Bleu(2)
    >>> metric.update(["a red fox"], [["a red fox", "the fox on the left"]])
    >>> metric.update(["a cheese"], [["some cheese"]])
    >>> round(float(metric.compute()["bleu@2"]), 3)
    0.73
    """

    def __init__(self, n_gram: int = 4, **options: Any) -> None:
        super().__init__(n_gram=n_gram, **options)
        self.set_dtype(torch.float64)  # counts stay exact, whatever the size of the corpus

    def update(self, captions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
        """Add captions and the references of each, as in ``in_words``."""
        super().update(*in_words(captions, by_length(references)))

    def compute(self) -> dict[str, Tensor]:
        """Return ``bleu@N`` in [0, 1], float64; NaN of no caption."""
        nothing = torch.tensor(torch.nan, dtype=torch.float64, device=self.device)
        return {f"bleu@{self.n_gram}": super().compute().double() if self.target_len else nothing}
