"""Metrics of the paper's tables: torchmetrics classes over pure functions."""

from eval.metrics.caption import CaptionAccuracy
from eval.metrics.retrieval import RetrievalAccuracy
from eval.metrics.selection import SelectionIoU

__all__ = ["CaptionAccuracy", "RetrievalAccuracy", "SelectionIoU"]
