"""From a run's settings to its task: models, embedder, dataset together."""

from __future__ import annotations

import torch

from eval.datasets.base import RegionDataset
from eval.errors import DataError
from eval.settings import ModelSource, Run
from eval.tasks import ClassRetrieval, LocalizedCaptioning, ReferringRetrieval, Task
from eval.tasks.classes import TEMPLATE
from regionlm.backbones.clip_vit import ClipViT
from regionlm.backbones.loading import load_backbone
from regionlm.captioner import RegionCaptioner
from regionlm.embedders import make_embedder
from regionlm.errors import ModelError


def build_task(run: Run, dataset: RegionDataset, device: torch.device) -> Task:
    """Load what a task needs onto a device. Raises as `eval.runs.execute.evaluate`."""
    if run.task == "captioning":
        captioner = _captioner(run.model, device)
        embedder = make_embedder(run.embedder.name, captioner.backbone, **run.embedder.options)
        judge = captioner.backbone if run.judge is None else _backbone(run.judge, device)
        return LocalizedCaptioning(
            captioner, embedder, judge, run.decoding, clipscore=run.clipscore
        )
    backbone = _backbone(run.model, device)
    embedder = make_embedder(run.embedder.name, backbone, **run.embedder.options)
    if run.task == "referring":
        return ReferringRetrieval(backbone, embedder, run.template or "{}")
    if not dataset.classes:
        raise DataError(
            f"{dataset.name}: has expressions and no classes; the task classes needs voc2012,"
            " context59, coco, openimages or mini"
        )
    return ClassRetrieval(
        backbone, embedder, dataset.classes, run.template or TEMPLATE, dataset.relatives
    )


def _captioner(model: ModelSource, device: torch.device) -> RegionCaptioner:
    if model.pretrained is not None:
        raise ModelError(
            f"model.pretrained: captioning takes a bundle, which brings its weights; found"
            f" {model.pretrained!r}"
        )
    return RegionCaptioner.from_pretrained(
        model.name, prefix=model.prefix, device=device, offline=model.offline
    )


def _backbone(model: ModelSource, device: torch.device) -> ClipViT:
    """An open_clip model by name and tag; without a tag a bundle's own backbone, or a folder."""
    if model.pretrained is not None:
        return load_backbone(
            model.name, pretrained=model.pretrained, device=device, offline=model.offline
        )
    return _captioner(model, device).backbone
