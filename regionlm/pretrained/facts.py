"""What a model is like, told from its config and the headers of its files; no weights are read."""

from __future__ import annotations

import json
from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import Any

from regionlm.errors import ModelError
from regionlm.pretrained.listed_model import ModelFacts


def open_clip_facts(config: dict[str, Any], name: str) -> ModelFacts:
    """Of an open_clip ``model_cfg``, seen on a model without memory.

    Raises:
        ModelError: it can't be used; the message says why.
    """
    from regionlm.backbones.clip_vit import ClipViT
    from regionlm.backbones.open_clip_insides import outline, refuse_unreadable

    refuse_unreadable(config, name, offline=False)
    model, parameters = outline(config, name)
    backbone = ClipViT(model, name=name)
    pooling = backbone.head().pooling
    return ModelFacts(backbone.dim, backbone.patch_size, backbone.default_size, pooling, parameters)


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

    try:
        config = AutoConfig.from_pretrained(str(folder), local_files_only=True)
        vision = config.vision_config
        patch, size, width = vision.patch_size, vision.image_size, vision.hidden_size
    except Exception as error:  # transformers' errors have no common type
        raise ModelError(f"{folder}: its config can't be read ({type(error).__name__})") from error
    is_siglip = "siglip" in vision.model_type
    joint = None if config.model_type == "llava" else getattr(config, "projection_dim", width)
    return ModelFacts(
        dim=joint,
        patch=(patch, patch),
        size=(size, size),
        pooling="attention" if is_siglip else "cls",
        parameters=stored_parameters(folder.glob("model*.safetensors")),
    )


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
