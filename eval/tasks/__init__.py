"""The tasks and their metrics.

A task answers one image at a time with records; metrics are computed from records alone.
"""

from eval.tasks import classes, referring
from eval.tasks.classes import ClassRetrieval, class_metrics
from eval.tasks.localized_captioning import LocalizedCaptioning, caption_metrics
from eval.tasks.referring import ReferringRetrieval, referring_metrics
from eval.tasks.region_task import Record, RegionTask

METRICS = {
    "captioning": caption_metrics,
    "classes": class_metrics,
    "referring": referring_metrics,
}
"""The function that computes each task's figures from the records of all images, in any order."""

TEMPLATES = {"classes": classes.TEMPLATE, "referring": referring.TEMPLATE}
"""The default prompt of each task that has one."""

__all__ = [
    "METRICS",
    "TEMPLATES",
    "ClassRetrieval",
    "LocalizedCaptioning",
    "Record",
    "ReferringRetrieval",
    "RegionTask",
    "caption_metrics",
    "class_metrics",
    "referring_metrics",
]
