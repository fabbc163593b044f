"""Recognise models of transformers by their config.json, and refuse those that can't be used."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefix_models.folders import CONFIG
from regionlm.errors import ModelError, NoCaptionsError

_ORIGINAL = re.compile(r"Llava\w+ForCausalLM")  # classes in the code of LLaVA's authors
_CONVERTED = {4096: "llava-hf/llava-1.5-7b-hf", 5120: "llava-hf/llava-1.5-13b-hf"}
SPACELESS = "which captions only and has no space to match or embed in"
_EMBEDS = "use it with match, embed or explain, or caption with"
_RUNS = "LLaVA 1.5 (such as llava-hf/llava-1.5-7b-hf), a bundle or a preset"
#: Names of vision-language models, by their model_type.
_NAMES = {
    "llava": "a LLaVA",
    "blip": "BLIP",
    "blip-2": "BLIP-2",
    "florence2": "Florence-2",
    "gemma3": "Gemma 3",
    "git": "GIT",
    "glm4v": "GLM-4V",
    "idefics": "IDEFICS",
    "idefics2": "Idefics2",
    "idefics3": "Idefics3",
    "instructblip": "InstructBLIP",
    "internvl": "InternVL",
    "kosmos-2": "Kosmos-2",
    "llava_next": "LLaVA-NeXT",
    "llava_next_video": "LLaVA-NeXT-Video",
    "llava_onevision": "LLaVA-OneVision",
    "mistral3": "Mistral 3",
    "mllama": "Llama 3.2 Vision",
    "paligemma": "PaliGemma",
    "pixtral": "Pixtral",
    "qwen2_5_vl": "Qwen2.5-VL",
    "qwen2_vl": "Qwen2-VL",
    "qwen3_vl": "Qwen3-VL",
    "smolvlm": "SmolVLM",
    "video_llava": "Video-LLaVA",
    "vipllava": "ViP-LLaVA",
}
_ENCODERS = ("align", "altclip", "chinese_clip", "clip_vision_model", "dinov2", "dinov3_vit",
             "siglip_vision_model", "vit")  # fmt: skip
#: What embeds images and texts, by its model_type.
_BACKBONES = {"clip": "CLIPModel", "metaclip_2": "MetaClip2Model", "siglip": "SiglipModel",
              "siglip2": "Siglip2Model"}  # fmt: skip


def is_llava(folder: Path) -> bool:
    """Whether a folder's config.json says that it is a ``LlavaForConditionalGeneration``."""
    config = _transformers_config(folder)
    return config.get("model_type") == "llava" and not _is_original_llava(config)


def embeds_in_transformers(folder: Path) -> bool:
    """Whether a folder's config.json is of a model of transformers that embeds images and texts."""
    if not _transformers_config(folder):
        return False
    try:
        refuse_other_models(folder, folder, captions=False)
    except ModelError:
        return False
    return True


def refuse_other_models(folder: Path, source: str | Path, *, captions: bool) -> None:
    """Raise ModelError, saying what the model is, if it is one of transformers that can't be used.

    The error is a NoCaptionsError if the model can embed images and texts.

    Args:
        folder: the folder of any model.
        source: the user's name for it.
        captions: whether it should caption; if not, it should embed images and texts.
    """
    from regionlm.backbones.open_clip_insides import CONFIG_FILE

    if captions and (folder / CONFIG_FILE).is_file() and not (folder / CONFIG).is_file():
        raise NoCaptionsError(
            f"{source}: is an open_clip model, which writes no captions; {_EMBEDS} {_RUNS}"
        )
    config = _transformers_config(folder)
    runs = ("llava",) if captions else _BACKBONES
    if not config or (config.get("model_type") in runs and not _is_original_llava(config)):
        return
    embeds = captions and config.get("model_type") in _BACKBONES
    error = NoCaptionsError if embeds else ModelError
    raise error(f"{source}: is {_described(config, captions)}")


def _described(config: Mapping[str, Any], captions: bool) -> str:
    kind, is_original = str(config.get("model_type", "")), _is_original_llava(config)
    named = "a LLaVA" if is_original or kind == "llava" else _name(config)
    if kind in _BACKBONES:
        return f"transformers' {_BACKBONES[kind]}, which writes no captions; {_EMBEDS} {_RUNS}"
    if kind in _ENCODERS:
        return f"{named}, not a CLIP that can be read; take OpenAI's or OpenCLIP's, or a bundle"
    if not is_original and kind not in _NAMES and "vision_config" not in config:
        return (
            f"{named}, which reads no images; to caption regions with it train a prefix model"
            " (regionlm train fit), or take a bundle"
        )
    if not captions:
        return f"{named}, {SPACELESS}; take a CLIP or a bundle"
    if is_original:
        return _original_llava(config)
    return f"{named}, which can't caption regions here; take {_RUNS}"


def _name(config: Mapping[str, Any]) -> str:
    kind = str(config.get("model_type", ""))
    shown = _NAMES.get(kind) or _class(config) or "a model of transformers"
    return f"{shown} (model_type {kind})" if kind else shown


def _class(config: Mapping[str, Any]) -> str:
    classes = config.get("architectures")
    return str(classes[0]) if isinstance(classes, list) and classes else ""


def _is_original_llava(config: Mapping[str, Any]) -> bool:
    return "mm_vision_tower" in config or bool(_ORIGINAL.fullmatch(_class(config)))


def _original_llava(config: Mapping[str, Any]) -> str:
    is_newer = bool(config.get("image_grid_pinpoints"))  # LLaVA 1.5 has one image size only
    width = config.get("hidden_size")
    wanted = _CONVERTED.get(width if isinstance(width, int) else 0, _CONVERTED[4096])
    return (
        f"a LLaVA{' newer than 1.5' if is_newer else ''} in its authors' format"
        f" ({_class(config) or 'mm_vision_tower in ' + CONFIG}), which transformers can't read;"
        f" take LLaVA 1.5 as converted for transformers: {wanted}"
    )


def _transformers_config(folder: Path) -> dict[str, Any]:
    """A folder's config.json if it is one of transformers, otherwise {}."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(config, dict) or "format" in config:
        return {}
    return config if "model_type" in config or "architectures" in config else {}
