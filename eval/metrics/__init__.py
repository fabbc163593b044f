"""Metrics of the paper's tables and of captions: torchmetrics classes over pure functions."""

from eval.metrics.caption import CaptionAccuracy
from eval.metrics.clip_score import ClipScore
from eval.metrics.retrieval import ExpectedAccuracy, RetrievalAccuracy
from eval.metrics.selection import SelectionIoU
from eval.metrics.text import Bleu, Cider, RougeL

__all__ = [
    "Bleu",
    "CaptionAccuracy",
    "Cider",
    "ClipScore",
    "ExpectedAccuracy",
    "RetrievalAccuracy",
    "RougeL",
    "SelectionIoU",
]
