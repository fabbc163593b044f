"""Build the task of a run: load its models and its embedder."""

from __future__ import annotations

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
from regionlm.backbones.loading import CONFIG_FILE, load_backbone
from regionlm.captioner import RegionCaptioner
from regionlm.datasets.data_errors import DataError
from regionlm.datasets.region_dataset import RegionDataset
from regionlm.embedders import make_embedder
from regionlm.errors import ModelError
from regionlm.pretrained.presets import PRESETS
from regionlm.pretrained.sources import find_folder


def build_task(run: Run, dataset: RegionDataset, device: torch.device) -> RegionTask:
    """Load the models of a task onto a device; raises what `eval.runs.evaluate.evaluate` does."""
    if run.task == "captioning":
        captioner = _captioner(run.model, device)
        embedder = make_embedder(run.embedder.name, captioner.backbone, **run.embedder.options)
        judge = captioner.backbone if run.judge is None else _backbone(run.judge, device)
        return LocalizedCaptioning(
            captioner, embedder, judge, run.decoding, clipscore=run.clipscore
        )
    backbone = _backbone(run.model, device)
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
                f"model.pretrained: captioning takes a bundle, which brings its weights; found"
                f" {run.model.pretrained!r}"
            )
        _check_bundle(run.model)
        if run.judge is not None:
            _check_backbone(run.judge, "judge")
    else:
        _check_backbone(run.model, "model")


def _check_backbone(model: ModelSource, option: str) -> None:
    if _is_open_clip(model):
        return
    if not _is_known(model.name) and not Path(model.name).exists():
        _refuse_untagged(model.name, option)
    _check_bundle(model)


def _check_bundle(model: ModelSource) -> None:
    if model.name not in PRESETS:
        find_folder(model.name, model.offline)


def _captioner(model: ModelSource, device: torch.device) -> RegionCaptioner:
    return RegionCaptioner.from_pretrained(
        model.name, prefix=model.prefix, device=device, offline=model.offline
    )


def _backbone(model: ModelSource, device: torch.device) -> ClipViT:
    """Load an open_clip model by name and tag or from a folder, else a bundle's backbone."""
    if _is_open_clip(model):
        return load_backbone(
            model.name, pretrained=model.pretrained, device=device, offline=model.offline
        )
    return _captioner(model, device).backbone


def _is_open_clip(model: ModelSource) -> bool:
    is_folder = not _is_known(model.name) and (Path(model.name) / CONFIG_FILE).is_file()
    return model.pretrained is not None or is_folder


def _is_known(name: str) -> bool:
    return name == "mini" or name in PRESETS


def _refuse_untagged(name: str, option: str) -> None:
    """Raise ModelError if this is an open_clip model's name, which does not say which weights."""
    import open_clip

    plain = name.replace("/", "-")  # OpenAI writes ViT-B/32
    if plain in open_clip.list_models():
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(plain)[:6]) or "none known"
        raise ModelError(
            f"{option}.name {name}: names no weights; add --{option}.pretrained with open_clip's"
            f" tag ({tags}) or a checkpoint file"
        )
