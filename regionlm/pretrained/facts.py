"""What a model is like, told from its config and the headers of its files; no weights are read."""

from __future__ import annotations

import json
from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regionlm.errors import ModelError
from regionlm.pretrained.listed_model import ModelFacts
from regionlm.pretrained.outlines import open_clip_config, siglip_outline

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
    return open_clip_facts(open_clip_config(folder), name)


def transformers_facts(folder: Path) -> ModelFacts:
    """Of a folder of transformers' CLIPModel, SiglipModel or LLaVA; ModelError if it is damaged."""
    from transformers import AutoConfig

    from regionlm.backbones.transformers_siglip import is_transformers_siglip

    try:
        config = AutoConfig.from_pretrained(str(folder), local_files_only=True)
        if is_transformers_siglip(folder):
            found = siglip_outline(folder)
            count = sum(weight.numel() for weight in found.model.parameters())
            return _backbone_facts(found, count)
        vision = config.vision_config
        patch, size = vision.patch_size, vision.image_size
        dim = None if config.model_type == "llava" else config.projection_dim
    except ModelError:
        raise
    except Exception as error:  # transformers' errors have no common type
        raise ModelError(f"{folder}: its config can't be read ({type(error).__name__})") from error
    count = stored_parameters(folder.glob("model*.safetensors"))
    return ModelFacts(dim, (patch, patch), (size, size), "cls", count)


def _backbone_facts(backbone: ClipViT, parameters: int | None) -> ModelFacts:
    pooling = backbone.head().pooling
    return ModelFacts(backbone.dim, backbone.patch_size, backbone.default_size, pooling, parameters)


def stored_parameters(files: Iterable[Path]) -> int | None:
    """How many numbers some safetensors files hold, by their headers; None if one is damaged."""
    count = 0
    for path in files:
        header = _header(path)
        if header is None:
            return None
        count += sum(prod(one["shape"]) for one in header.values())
    return count or None


def damaged_file(files: Iterable[Path]) -> Path | None:
    """The first file of weights that is empty or, of safetensors, has not the size that its header
    says; None if there is none."""
    for path in files:
        size = path.stat().st_size if path.is_file() else 0  # a cached link may lead nowhere
        if size == 0 or (path.suffix == ".safetensors" and _header(path) is None):
            return path
    return None


def _header(path: Path) -> dict[str, Any] | None:
    """The tensors of a safetensors file by name; None if it is damaged.

    A file begins with the header's length in 8 bytes, little endian, and the header in JSON, which
    says where each tensor begins and ends in the rest.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, 100_000_000)))
        header.pop("__metadata__", None)
        end = max((int(one["data_offsets"][1]) for one in header.values()), default=0)
        is_whole = 8 + length + end == path.stat().st_size
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return None
    return header if is_whole else None
