"""The backbone and the prefix model that training starts from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from prefix_models.clipcap import ClipCap
from prefix_models.config import ClipCapConfig
from prefix_models.errors import PrefixModelError
from prefix_models.language_model import (
    is_adapted,
    read_referenced,
    read_tokenizer,
    reference_of,
)
from prefix_models.llava import ProjectorModel
from prefix_models.lora import add_lora
from prefix_models.prefix_model import PrefixModel
from prefix_models.projector_config import ProjectorConfig
from regionlm.backbones.clip_vit import ClipViT
from regionlm.backbones.loading import load_backbone
from regionlm.captioner import RegionCaptioner
from regionlm.errors import InputError
from training.settings import Recipe, Start


def load_start(start: Start, recipe: Recipe) -> tuple[ClipViT, PrefixModel]:
    """Backbone and prefix model on the CPU, new parts drawn by the recipe's seed.

    Raises:
        InputError: settings that contradict each other. ModelError, PrefixModelError: parts that
            are missing, damaged, or do not fit each other.
    """
    _check(start)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        backbone, model = _from_bundle(start) if start.bundle is not None else _new(start, recipe)
        if recipe.trains == "lora" and not is_adapted(model.lm):
            model.lm = add_lora(model.lm, **recipe.lora)
    if not start.store_language_model:
        if not isinstance(model, ProjectorModel):
            raise InputError("start.store_language_model: only a projector can leave it out")
        model.reference = reference_of(model.lm)
    return backbone, model


def _check(start: Start) -> None:
    with_bundle = {"prefix": start.prefix, "new_prefix": start.new_prefix}
    without = {
        "backbone": start.backbone,
        "pretrained": start.pretrained,
        "language_model": start.language_model,
        "options": start.options or None,
    }
    wrong = with_bundle if start.bundle is None else without
    given = [name for name, value in wrong.items() if value is not None]
    if given:
        what = "goes with start.bundle" if start.bundle is None else "is what the bundle brings"
        raise InputError(f"start.{given[0]}: {what}; found start.bundle {start.bundle}")
    if start.bundle is None:
        for name in ("backbone", "language_model"):
            if getattr(start, name) is None:
                raise InputError(f"start.{name}: give one, or else a start.bundle")


def _from_bundle(start: Start) -> tuple[ClipViT, PrefixModel]:
    captioner = RegionCaptioner.from_pretrained(
        str(start.bundle), prefix=start.prefix, device="cpu", offline=start.offline
    )
    model = captioner.prefix_model
    if start.new_prefix is not None:
        if not isinstance(model, ClipCap):
            raise InputError("start.new_prefix: only a ClipCap has several; leave it out")
        model = model.add_prefix(start.new_prefix)
    return captioner.backbone, model


def _new(start: Start, recipe: Recipe) -> tuple[ClipViT, PrefixModel]:
    backbone = load_backbone(
        str(start.backbone), pretrained=start.pretrained, device="cpu", offline=start.offline
    )
    source = str(start.language_model)
    dtype = torch.float32 if recipe.trains == "all" else None  # AdamW's steps vanish in bfloat16
    lm = _language_model(source, start.offline, dtype)
    tokenizer = load_tokenizer(source, start.offline)
    options = {"embedding_dim": backbone.dim, "encoder": backbone.name, **start.options}
    if start.kind == "projector":
        return backbone, ProjectorModel(lm, tokenizer, ProjectorConfig.from_dict(options))
    return backbone, ClipCap(lm, tokenizer, ClipCapConfig.from_dict(options))


def _language_model(source: str, offline: bool, dtype: torch.dtype | None) -> Any:
    folder = Path(source)
    found = str(folder.resolve()) if folder.is_dir() else source
    return read_referenced({"source": found, "revision": None}, offline, dtype)


def load_tokenizer(source: str, offline: bool) -> Any:
    """Tokenizer of a language model's folder or hub id; PrefixModelError if there is none."""
    if (Path(source) / "tokenizer.json").is_file():
        return read_tokenizer(Path(source), None)
    from transformers import AutoTokenizer

    local = offline or Path(source).is_dir()
    try:
        return AutoTokenizer.from_pretrained(source, local_files_only=local)
    except Exception as error:  # the hub's, the files' and the tokenizers' have no common type
        raise PrefixModelError(
            f"cannot read the tokenizer of {source} ({type(error).__name__})"
        ) from error
