"""The backbone and the prefix model that training starts from."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from prefix_models.base import PrefixModel
from prefix_models.clipcap.config import ClipCapConfig
from prefix_models.clipcap.model import ClipCap
from prefix_models.errors import PrefixModelError
from prefix_models.lm.adapter_files import adapted_by, find_adapter, read_adapter
from prefix_models.lm.adapters import is_adapted
from prefix_models.lm.folder import (
    check_storable,
    read_referenced,
    read_tokenizer,
    reference_of,
)
from prefix_models.lm.lora import LoraOptions, with_lora
from prefix_models.projector.config import ProjectorConfig
from prefix_models.projector.model import ProjectorModel
from regionlm.backbones.clip_vit import ClipViT
from regionlm.backbones.loading import load_backbone
from regionlm.captioner import RegionCaptioner
from regionlm.errors import InputError
from training.fit_settings import Recipe, Start, Trains
from training.prefix import trained_names

_HALF = (torch.bfloat16, torch.float16)


def load_start(start: Start, recipe: Recipe) -> tuple[ClipViT, PrefixModel]:
    """Load backbone and prefix model on the CPU; new parts are drawn with the recipe's seed.

    Weights that the recipe trains have at least float32; all others keep their precision.

    Raises:
        InputError: settings that contradict each other.
        ModelError, PrefixModelError: parts that are missing, damaged, or do not fit together.
    """
    _check(start, recipe.trains)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        backbone, model = _from_bundle(start) if start.bundle is not None else _new(start, recipe)
        if recipe.trains == "lora":
            model.lm = _with_adapters(model.lm, recipe.lora)
    _widen(model, recipe.trains)
    if recipe.trains == "all" and isinstance(model, ProjectorModel):
        model.reference = None  # its source has the untrained weights
    elif not start.store_language_model:
        if not isinstance(model, ProjectorModel):
            raise InputError(
                "start.store_language_model: expected true, found false, which needs a projector"
            )
        model.reference = reference_of(model.lm)
    check_storable(model.lm, getattr(model, "reference", None))
    return backbone, model


def _widen(model: PrefixModel, trains: Trains) -> None:
    """Convert trained weights from half precision, in which AdamW's steps vanish, to float32."""
    names = set(trained_names(model, trains))
    for name, parameter in model.named_parameters():
        if name in names and parameter.dtype in _HALF:
            parameter.data = parameter.data.float()


def _check(start: Start, trains: Trains) -> None:
    if trains == "all" and not start.store_language_model:
        raise InputError(
            "start.store_language_model: expected true with recipe.trains all, since the trained"
            " language model is stored nowhere else; found false (recipe.trains lora allows it)"
        )
    if start.bundle is None:
        _forbid(start, ("prefix", "new_prefix"), "goes with start.bundle; found none")
        for name in ("backbone", "language_model"):
            if getattr(start, name) is None:
                raise InputError(f"start.{name}: found none; give one, or a start.bundle")
        return
    brought = f"comes with the bundle; leave it out, or leave out start.bundle {start.bundle}"
    _forbid(start, ("backbone", "pretrained", "language_model"), brought)
    if start.kind is None:
        _forbid(
            start, ("options",), "goes with a new prefix model; give start.kind, or leave it out"
        )
    else:
        replaced = f"selects a bundle's prefix, but start.kind {start.kind} makes a new model"
        _forbid(start, ("prefix", "new_prefix"), replaced)


def _forbid(start: Start, names: tuple[str, ...], why: str) -> None:
    for name in names:
        if getattr(start, name) not in (None, {}):
            raise InputError(f"start.{name}: {why}")


def _from_bundle(start: Start) -> tuple[ClipViT, PrefixModel]:
    captioner = RegionCaptioner.from_pretrained(
        str(start.bundle), prefix=start.prefix, device="cpu", offline=start.offline
    )
    backbone, model = captioner.backbone, captioner.prefix_model
    if start.kind is not None:
        model = _new_model(start, backbone, model.lm, model.tokenizer)
    if start.new_prefix is not None:
        if not isinstance(model, ClipCap):
            raise InputError(
                "start.new_prefix: only a ClipCap can have several prefixes; leave it out"
            )
        model = model.add_prefix(start.new_prefix)
    return backbone, model


def _new(start: Start, recipe: Recipe) -> tuple[ClipViT, PrefixModel]:
    backbone = load_backbone(
        str(start.backbone), pretrained=start.pretrained, device="cpu", offline=start.offline
    )
    # Widening later would not do: transformers rounds weights as config.json says.
    dtype = torch.float32 if recipe.trains == "all" else None
    lm, tokenizer = _language_model(str(start.language_model), start.offline, dtype)
    return backbone, _new_model(start, backbone, lm, tokenizer)


def _new_model(start: Start, backbone: ClipViT, lm: Any, tokenizer: Any) -> PrefixModel:
    options = {"embedding_dim": backbone.dim, "encoder": backbone.name, **start.options}
    if start.kind == "projector":
        return ProjectorModel(lm, tokenizer, ProjectorConfig.from_dict(options))
    return ClipCap(lm, tokenizer, ClipCapConfig.from_dict(options))


def _language_model(source: str, offline: bool, dtype: torch.dtype | None) -> tuple[Any, Any]:
    """Language model and tokenizer of a folder or hub id, which may hold adapters."""
    adapter = find_adapter(source, offline=offline)
    if adapter is None:
        return _read_language_model(source, None, offline, dtype), load_tokenizer(source, offline)
    # Several versions of transformers ignore some weights of adapters.
    base, revision = adapted_by(adapter)
    lm = read_adapter(_read_language_model(base, revision, offline, dtype), adapter, dtype)
    brings_tokenizer = any(adapter.glob("tokenizer*"))
    return lm, load_tokenizer(str(adapter) if brings_tokenizer else base, offline)


def _read_language_model(
    source: str, revision: str | None, offline: bool, dtype: torch.dtype | None
) -> Any:
    folder = Path(source)
    found = str(folder.resolve()) if folder.is_dir() else source
    return read_referenced({"source": found, "revision": revision}, offline, dtype)


def _with_adapters(lm: Any, options: dict[str, Any]) -> Any:
    if is_adapted(lm):
        if options:
            raise InputError(
                "recipe.lora: the language model has adapters already, which are trained further;"
                " leave recipe.lora out"
            )
        return lm
    known = [field.name for field in fields(LoraOptions)]
    for name in options:
        if name not in known:
            raise InputError(f"recipe.lora: expected {', '.join(known)}; found {name!r}")
    return with_lora(lm, LoraOptions(**options))


def load_tokenizer(source: str, offline: bool) -> Any:
    """The tokenizer of a folder or hub id. Raises PrefixModelError if there is none."""
    if (Path(source) / "tokenizer.json").is_file():
        return read_tokenizer(Path(source), None)
    from transformers import AutoTokenizer

    local = offline or Path(source).is_dir()
    try:
        return AutoTokenizer.from_pretrained(source, local_files_only=local)
    except Exception as error:  # errors of the hub, of files and of tokenizers have no common type
        raise PrefixModelError(
            f"cannot read the tokenizer of {source} ({type(error).__name__})"
        ) from error
