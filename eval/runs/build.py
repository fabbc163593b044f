"""Build the task of a run: load its models and its embedder."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch

from eval.run_settings import ModelSource, Run
from eval.tasks import (
    TEMPLATES,
    ClassRetrieval,
    LocalizedCaptioning,
    ReferringRetrieval,
    RegionTask,
)
from regionlm.backbones.clip_vit import ClipViT
from regionlm.backbones.loading import HUB, is_open_clip_name, load_backbone, split_tag
from regionlm.captioner import RegionCaptioner
from regionlm.datasets.data_errors import DataError
from regionlm.datasets.region_dataset import RegionDataset
from regionlm.embedders import make_embedder
from regionlm.errors import ModelError
from regionlm.pretrained.backbones import read_backbone
from regionlm.pretrained.presets import PRESETS, models_folder
from regionlm.pretrained.sources import find_folder


def build_task(run: Run, dataset: RegionDataset, device: torch.device) -> RegionTask:
    """Load the models of a task onto a device; raises what `eval.runs.evaluate.evaluate` does."""
    if run.task == "captioning":
        captioner = _captioner(run.model, device)
        captioner.backbone.set_trunk(**asdict(run.trunk))
        embedder = make_embedder(run.embedder.name, captioner.backbone, **run.embedder.options)
        judge = captioner.backbone if run.judge is None else _backbone(run.judge, device)
        return LocalizedCaptioning(
            captioner, embedder, judge, run.decoding, clipscore=run.clipscore
        )
    backbone = _backbone(run.model, device).set_trunk(**asdict(run.trunk))
    embedder = make_embedder(run.embedder.name, backbone, **run.embedder.options)
    template = TEMPLATES[run.task] if run.template is None else run.template
    if run.task == "referring":
        return ReferringRetrieval(backbone, embedder, template)
    if not dataset.classes:
        raise DataError(
            f"{dataset.name}: has expressions but no classes; the task classes needs voc2012,"
            " context59, coco, openimages or mini"
        )
    return ClassRetrieval(backbone, embedder, dataset.classes, template, dataset.relatives)


def check_models(run: Run) -> None:
    """Check that the models of a run exist, without loading them; download them if need be.

    Raises:
        ModelError: there is no such model, or an open_clip model is named without its weights.
    """
    if run.task == "captioning":
        if run.model.pretrained is not None:
            raise ModelError(
                f"model.pretrained: captioning takes a bundle, which has its own weights; found"
                f" {run.model.pretrained!r}"
            )
        _check_bundle(run.model)
        if run.judge is not None:
            _check_backbone(run.judge, "judge")
    else:
        _check_backbone(run.model, "model")


def _check_backbone(model: ModelSource, option: str) -> None:
    if model.pretrained is not None or model.name in PRESETS or model.name.startswith(HUB):
        return
    if is_open_clip_name(model.name) and not Path(model.name).is_dir():
        _check_tag(model.name, option)
    else:
        find_folder(model.name, model.offline, captions=False)


def _check_bundle(model: ModelSource) -> None:
    if model.name not in PRESETS:
        find_folder(model.name, model.offline)


def _captioner(model: ModelSource, device: torch.device) -> RegionCaptioner:
    return RegionCaptioner.from_pretrained(
        model.name, prefix=model.prefix, device=device, offline=model.offline
    )


def _backbone(model: ModelSource, device: torch.device) -> ClipViT:
    if model.pretrained is None:
        return read_backbone(model.name, device=device, offline=model.offline)
    return load_backbone(
        model.name, pretrained=model.pretrained, device=device, offline=model.offline
    )


def _check_tag(name: str, option: str) -> None:
    """Raise ModelError if the name of an open_clip model does not say which weights."""
    import open_clip

    plain = name.replace("/", "-")  # OpenAI writes ViT-B/32
    if split_tag(name)[1] is None and not (models_folder() / plain).is_dir():
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(plain)[:6]) or "none known"
        raise ModelError(
            f"{option}.name {name}: names no weights; add open_clip's tag to it, as in {name}/TAG"
            f" ({tags}), or --{option}.pretrained with a checkpoint file"
        )
