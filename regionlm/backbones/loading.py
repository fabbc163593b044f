"""Load backbones: by name and tag, from a checkpoint file, a folder, or the hub."""

from __future__ import annotations

import difflib
import json
import os
import warnings
from pathlib import Path
from typing import Any

import torch

from prefix_models.folders import CONFIG
from regionlm.backbones.clip_vit import ClipViT
from regionlm.backbones.open_clip_insides import (
    CONFIG_FILE,
    WEIGHT_FILES,
    build_model,
    empty_model,
    is_quick_gelu,
    refuse_unreadable,
    with_activation,
)
from regionlm.backbones.published_weights import download_folder, find_weights
from regionlm.backbones.state_dicts import load_weights, read_weights
from regionlm.backbones.text_tokenizers import folder_tokenizer, model_tokenizer
from regionlm.backbones.torchscript import is_torchscript, torchscript_classes
from regionlm.backbones.transformers_clip import is_transformers_clip, load_transformers_clip
from regionlm.backbones.transformers_siglip import (
    is_transformers_siglip,
    load_transformers_siglip,
)
from regionlm.devices import resolve_device
from regionlm.errors import ModelError, ModelWarning

HUB = "hf-hub:"


def load_backbone(
    source: str,
    *,
    pretrained: str | None = None,
    device: str | torch.device = "auto",
    offline: bool = False,
    quick_gelu: bool | None = None,
) -> ClipViT:
    """Load a CLIP ViT with its weights.

    Args:
        source: an open_clip model name, with its tag (``ViT-B-32/openai``) or without
            (``ViT-B-32``); a local folder; or ``hf-hub:ID``, a hub repository. A folder holds
            ``open_clip_config.json``, the weights and, if the config names a tokenizer
            (``hf_tokenizer_name``), its files; or it holds transformers' ``CLIPModel``,
            ``MetaClip2Model``, ``SiglipModel`` or ``Siglip2Model``. Texts are
            tokenized as open_clip does.
        pretrained: for a name without a tag: open_clip's tag (``openai``, ``laion2b_s34b_b79k``) or
            the path of a checkpoint file. Otherwise leave it out.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N``, ``mps``.
        offline: never use the network; weights must already be in the Hugging Face cache.
        quick_gelu: whether the weights were trained with QuickGELU. By default this follows from
            the tag, from a TorchScript file (OpenAI's are QuickGELU), from the name of a file that
            open_clip publishes or that contains ``quickgelu``, and otherwise from the model's name
            or config, such as ``ViT-B-32-quickgelu``. A wrong choice gives no error, only bad
            embeddings; if nothing decides, there is a ``ModelWarning``.

    Raises:
        ModelError: the name, tag or device is unknown, or files are missing, damaged or do not
            match.
    """
    target = resolve_device(device)
    is_hub = source.startswith(HUB)
    folder = Path(source.removeprefix("local-dir:"))
    if is_hub or source.startswith("local-dir:") or folder.is_dir():
        if pretrained is not None:
            raise ModelError(f"model folder {source}: it has its own weights; leave out pretrained")
        if is_hub:
            folder = download_folder(source.removeprefix(HUB), offline)
        return _load_folder(folder, quick_gelu).to(target)
    name, tag = (source, None) if pretrained is not None else split_tag(source)
    return _load_named(name, tag or pretrained, offline, quick_gelu).to(target)


def split_tag(source: str) -> tuple[str, str | None]:
    """Split ``NAME/TAG`` of an open_clip model; the tag is None if there is none."""
    import open_clip

    name, _, tag = source.rpartition("/")
    if name.replace("/", "-") in open_clip.list_models():
        return name, tag
    return source, None


def without_weights(name: str, instead: str) -> ModelError:
    """What to raise about an open_clip model without a tag.

    Args:
        name: the model's.
        instead: what else the user can do, such as "give a file".

    Raises:
        ModelError: the model can't be read, whatever its weights.
    """
    import open_clip

    config = open_clip.get_model_config(name.replace("/", "-"))
    _refuse_unreadable(config, name, offline=False)
    tags = _some_tags(name)
    if not tags:
        return ModelError(f"{name}: has no published weights; {instead}")
    return ModelError(f"{name}: names no weights; give {name}/TAG with one of {tags}, or {instead}")


def _some_tags(name: str) -> str:
    """The first tags of an open_clip model, for messages; empty if it has none."""
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(name.replace("/", "-"))
    return ", ".join(tags[:6]) + (", ..." if len(tags) > 6 else "")


def is_open_clip_name(source: str) -> bool:
    """Whether this is the name of an open_clip model, with or without a tag."""
    import open_clip

    return split_tag(source)[0].replace("/", "-") in open_clip.list_models()


def _load_folder(folder: Path, quick_gelu: bool | None) -> ClipViT:
    path = folder / CONFIG_FILE
    if not path.is_file() and is_transformers_clip(folder):
        return load_transformers_clip(folder, quick_gelu)
    if not path.is_file() and is_transformers_siglip(folder):
        return load_transformers_siglip(folder)
    if not path.is_file():
        raise ModelError(
            f"model folder {folder}: expected {CONFIG_FILE} in it, or {CONFIG} of transformers'"
            " CLIPModel, MetaClip2Model, SiglipModel or Siglip2Model, found neither"
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        model_config, text_config = config["model_cfg"], config["model_cfg"]["text_cfg"]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: expected JSON with model_cfg and its text_cfg") from error
    weights = next((folder / f for f in WEIGHT_FILES if (folder / f).is_file()), None)
    if weights is None:
        raise ModelError(f"model folder {folder}: lacks weights; put {WEIGHT_FILES[0]} there")
    _refuse_unreadable(model_config, str(folder), offline=True)
    preprocess = config.get("preprocess_cfg") or {}
    tokenizer = folder_tokenizer(folder, text_config)  # before the weights, which take longer
    model = build_model(model_config, str(folder), quick_gelu)
    load_weights(model, read_weights(weights), what=str(weights), name=str(path))
    return ClipViT(
        model.eval(),
        tokenizer=tokenizer,
        mean=preprocess.get("mean"),
        std=preprocess.get("std"),
        name=folder.absolute().name,
        config=with_activation(model_config, quick_gelu),
    )


def _load_named(
    source: str, pretrained: str | None, offline: bool, quick_gelu: bool | None
) -> ClipViT:
    import open_clip

    name = source.replace("/", "-")  # OpenAI's spelling is ViT-B/32
    config = open_clip.get_model_config(name)
    if config is None:
        raise ModelError(_unknown_name(source, open_clip.list_models()))
    if pretrained is None:
        raise without_weights(source, "give a checkpoint file as pretrained")
    _refuse_unreadable(config, source, offline)
    tag_config = open_clip.get_pretrained_cfg(name, pretrained)
    if tag_config:
        weights = find_weights(f"{source} {pretrained}", tag_config, offline)
    elif os.path.exists(pretrained):
        weights = Path(pretrained)
    else:
        raise ModelError(
            f"{source}: pretrained={pretrained!r} is neither a file nor one of its tags"
            f" ({_some_tags(name) or 'it has none'})"
        )
    published = tag_config or _published_as(name, weights)
    if quick_gelu is None:
        quick_gelu = True if published.get("quick_gelu") else _says_quick_gelu(weights)
    tokenizer = model_tokenizer(name, config["text_cfg"], offline)
    state = read_weights(weights)
    model = build_model(config, source, quick_gelu)
    load_weights(model, state, what=str(weights), name=source)
    if quick_gelu is None and not published and f"{name}-quickgelu" in open_clip.list_models():
        _warn_of_gelu(source, weights)
    return ClipViT(
        model.eval(),
        tokenizer=tokenizer,
        mean=tag_config.get("mean"),
        std=tag_config.get("std"),
        name=f"{source}/{pretrained}" if tag_config else source,
        config=with_activation(config, quick_gelu),
    )


def _refuse_unreadable(config: dict[str, Any], name: str, offline: bool) -> None:
    """Raise ModelError for what ``ClipViT`` would refuse, before anything is downloaded or read."""
    refuse_unreadable(config, name, offline)
    ClipViT(empty_model(config, name), name=name).head()


def _says_quick_gelu(weights: Path) -> bool | None:
    """What the format or the name of a file says about QuickGELU; None if nothing."""
    if is_torchscript(weights):
        return is_quick_gelu(torchscript_classes(weights))
    return True if "quickgelu" in weights.name.lower() else None


def _published_as(name: str, weights: Path) -> dict[str, Any]:
    """open_clip's config of this model's tag that has a file of this name; {} if there is none."""
    from open_clip import get_pretrained_cfg, list_pretrained_tags_by_model

    for tag in list_pretrained_tags_by_model(name):
        config: dict[str, Any] = get_pretrained_cfg(name, tag)
        if config.get("url") and config["url"].rsplit("/", 1)[-1] == weights.name:
            return config
    return {}


def _warn_of_gelu(source: str, weights: Path) -> None:
    warnings.warn(
        f"weights {weights}: nothing says whether {source} was trained with QuickGELU, so plain"
        " GELU is used; give load_backbone quick_gelu=True or False to be sure",
        ModelWarning,
        stacklevel=4,  # the caller of load_backbone
    )


def _unknown_name(source: str, known: list[str]) -> str:
    if os.sep in source and difflib.get_close_matches(source.replace("/", "-"), known, 1) == []:
        return f"model folder {source}: no such folder"
    close = difflib.get_close_matches(source.replace("/", "-"), known, 3, 0.5)
    hint = f"; did you mean {', '.join(close)}?" if close else ""
    return f"{source}: no open_clip model of that name and no such folder{hint}"
