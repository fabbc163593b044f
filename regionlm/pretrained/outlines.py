"""Backbones without memory, built from configurations alone: what fits a model is told by them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefix_models.errors import refusing
from prefix_models.folders import CONFIG
from regionlm.backbones.published_weights import cached_file
from regionlm.errors import ModelError
from regionlm.pretrained.bundle import BACKBONE, BUNDLE, SHIPPED
from regionlm.pretrained.presets import PRESETS, models_folder

if TYPE_CHECKING:
    from regionlm.backbones.clip_vit import ClipViT
    from regionlm.backbones.hf_clip_vit import HfClipViT


def outline_backbone(source: str | Path) -> ClipViT | None:
    """The backbone of any source that `regionlm.pretrained.backbones.read_backbone` takes.

    Its weights are on the meta device. None if the configuration is not on this machine, can't be
    read or is of another kind of model: what is wrong with those, loading says best.
    """
    try:
        return _outlined(str(source))
    except ModelError:
        return None


def outline_llava(source: str | Path) -> HfClipViT | None:
    """The image tower of a LLaVA, without memory and its normalisation; None as there, or if it is
    another kind of model."""
    from regionlm.backbones.hf_clip_vit import HfClipViT
    from regionlm.backbones.no_memory import without_memory
    from regionlm.pretrained.model_kinds import is_llava
    from regionlm.pretrained.sources import is_hub_id

    folder: Path | None = Path(source)
    if is_hub_id(source):
        config = cached_file(str(source), CONFIG)
        folder = None if config is None else config.parent
    if folder is None or not is_llava(folder):
        return None
    from transformers import AutoConfig, CLIPVisionModel

    try:
        with refusing(ModelError, str(source)), without_memory():
            config = AutoConfig.from_pretrained(str(folder), local_files_only=True)
            tower = CLIPVisionModel(config.vision_config)
        return HfClipViT(tower, mean=(0, 0, 0), std=(1, 1, 1), name=f"{source}: image tower")
    except ModelError:
        return None


def open_clip_outline(config: dict[str, Any], name: str) -> ClipViT:
    """Of open_clip's ``model_cfg``. Raises ModelError: it can't be used; the message says why."""
    from regionlm.backbones.clip_vit import ClipViT
    from regionlm.backbones.open_clip_insides import empty_model, refuse_unreadable

    refuse_unreadable(config, name, offline=False)
    return ClipViT(empty_model(config, name), name=name)


def open_clip_config(folder: Path) -> dict[str, Any]:
    """The ``model_cfg`` of a folder. Raises ModelError."""
    from regionlm.backbones.open_clip_insides import CONFIG_FILE

    path = folder / CONFIG_FILE
    try:
        config = json.loads(path.read_text(encoding="utf-8"))["model_cfg"]
        assert isinstance(config["text_cfg"], dict)
    except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
        raise ModelError(f"{path}: expected JSON with model_cfg and its text_cfg") from error
    return config


def siglip_outline(folder: Path) -> ClipViT:
    """Of a folder of transformers' ``SiglipModel`` or ``Siglip2Model``. Raises ModelError."""
    from transformers import AutoConfig, AutoModel

    from regionlm.backbones.clip_vit import ClipViT
    from regionlm.backbones.hf_siglip import SiglipAsClip
    from regionlm.backbones.no_memory import without_memory

    with refusing(ModelError, f"{folder}: its config can't be read"), without_memory():
        config = AutoConfig.from_pretrained(str(folder), local_files_only=True)
        model = AutoModel.from_config(config)
    return ClipViT(SiglipAsClip(model), name=folder.name)


def _outlined(source: str) -> ClipViT | None:
    import open_clip

    from regionlm.backbones.loading import HUB, is_open_clip_name, split_tag
    from regionlm.pretrained.sources import is_hub_id

    if source in PRESETS:
        name = PRESETS[source].backbone
        return open_clip_outline(open_clip.get_model_config(name), name)
    if source in SHIPPED or Path(source).is_dir():
        return _of_folder(SHIPPED.get(source, Path(source)))
    if is_open_clip_name(source):
        name, tag = split_tag(source)
        own = models_folder() / name.replace("/", "-")
        if tag is None and (found := _of_folder(own)) is not None:
            return found
        return open_clip_outline(open_clip.get_model_config(name.replace("/", "-")), source)
    if source.startswith(HUB) or is_hub_id(source):
        return _of_hub(source.removeprefix(HUB))
    return None


def _of_hub(hub_id: str) -> ClipViT | None:
    from regionlm.backbones.open_clip_insides import CONFIG_FILE

    configs = (cached_file(hub_id, name) for name in (CONFIG_FILE, CONFIG))
    found = next(filter(None, configs), None)
    return None if found is None else _of_folder(found.parent)


def _of_folder(folder: Path) -> ClipViT | None:
    from regionlm.backbones.open_clip_insides import CONFIG_FILE
    from regionlm.backbones.transformers_clip import is_transformers_clip, open_clip_form
    from regionlm.backbones.transformers_siglip import is_transformers_siglip

    if BUNDLE.is_kind_of(folder):
        about = BUNDLE.read_config(folder)
        backbone = open_clip_outline(open_clip_config(folder / BACKBONE), folder.name)
        named = about.get("backbone")
        if not isinstance(named, dict) or not isinstance(about.get("inversion"), dict):
            return None
        backbone.name = str(named.get("name"))
        backbone.inversion_defaults = about["inversion"]
        return backbone
    if (folder / CONFIG_FILE).is_file():
        return open_clip_outline(open_clip_config(folder), folder.name)
    if is_transformers_clip(folder):
        return open_clip_outline(open_clip_form(folder), folder.name)
    return siglip_outline(folder) if is_transformers_siglip(folder) else None
