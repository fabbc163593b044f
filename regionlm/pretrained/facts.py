"""What a model is like, told from its config and the headers of its files; no weights are read."""

from __future__ import annotations

import json
from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regionlm.errors import ModelError
from regionlm.pretrained.listed_model import ModelFacts

if TYPE_CHECKING:
    from regionlm.backbones.clip_vit import ClipViT


def open_clip_facts(config: dict[str, Any], name: str) -> ModelFacts:
    """Of an open_clip ``model_cfg``, seen on a model without memory.

    Raises:
        ModelError: it can't be used; the message says why.
    """
    from regionlm.backbones.clip_vit import ClipViT
    from regionlm.backbones.open_clip_insides import outline, refuse_unreadable

    refuse_unreadable(config, name, offline=False)
    model, parameters = outline(config, name)
    return _backbone_facts(ClipViT(model, name=name), parameters)


def open_clip_folder_facts(folder: Path, name: str) -> ModelFacts:
    """Of a folder with open_clip's config. Raises ModelError: it can't be used or read."""
    from regionlm.backbones.open_clip_insides import CONFIG_FILE

    path = folder / CONFIG_FILE
    try:
        config = json.loads(path.read_text(encoding="utf-8"))["model_cfg"]
        assert isinstance(config["text_cfg"], dict)
    except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
        raise ModelError(f"{path}: expected JSON with model_cfg and its text_cfg") from error
    return open_clip_facts(config, name)


def transformers_facts(folder: Path) -> ModelFacts:
    """Of a folder of transformers' CLIPModel, SiglipModel or LLaVA; ModelError if it is damaged."""
    from transformers import AutoConfig

    from regionlm.backbones.transformers_siglip import is_transformers_siglip

    try:
        config = AutoConfig.from_pretrained(str(folder), local_files_only=True)
        if is_transformers_siglip(folder):
            return _siglip_facts(config, folder)
        vision = config.vision_config
        patch, size = vision.patch_size, vision.image_size
        dim = None if config.model_type == "llava" else config.projection_dim
    except ModelError:
        raise
    except Exception as error:  # transformers' errors have no common type
        raise ModelError(f"{folder}: its config can't be read ({type(error).__name__})") from error
    count = stored_parameters(folder.glob("model*.safetensors"))
    return ModelFacts(dim, (patch, patch), (size, size), "cls", count)


def _siglip_facts(config: Any, folder: Path) -> ModelFacts:
    from transformers import AutoModel

    from regionlm.backbones.clip_vit import ClipViT
    from regionlm.backbones.hf_siglip import SiglipAsClip
    from regionlm.backbones.no_memory import without_memory

    with without_memory():
        model = AutoModel.from_config(config)
    count = sum(weight.numel() for weight in model.parameters())
    return _backbone_facts(ClipViT(SiglipAsClip(model), name=folder.name), count)


def _backbone_facts(backbone: ClipViT, parameters: int | None) -> ModelFacts:
    pooling = backbone.head().pooling
    return ModelFacts(backbone.dim, backbone.patch_size, backbone.default_size, pooling, parameters)


def stored_parameters(files: Iterable[Path]) -> int | None:
    """How many numbers some safetensors files hold, by their headers; None if one is unreadable.

    A file begins with the header's length in 8 bytes, little endian, and the header in JSON.
    """
    count = 0
    for path in files:
        try:
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(min(length, 100_000_000)))
            shapes = [one["shape"] for key, one in header.items() if key != "__metadata__"]
            count += sum(map(prod, shapes))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
    return count or None
