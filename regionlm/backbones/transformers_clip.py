"""Load a folder of transformers' ``CLIPModel`` as the open_clip model that computes the same.

Both are the CLIP of Radford et al. 2021 and differ only in the names and layout of weights. So does
``MetaClip2Model``, except that it reads a text's first end token, whichever its number.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prefix_models.errors import first_line
from prefix_models.folders import CONFIG
from regionlm.backbones.clip_vit import ClipViT
from regionlm.backbones.open_clip_insides import build_model, with_activation
from regionlm.backbones.state_dicts import load_weights, read_weights
from regionlm.backbones.text_tokenizers import transformers_clip_tokenizer
from regionlm.errors import TAKE_ANOTHER, ModelError

_CLIP, _METACLIP = "clip", "metaclip_2"  # model_type
_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
_TOWERS = {"vision_model.": "visual.", "text_model.": ""}
_PARTS = {
    "embeddings.class_embedding": "class_embedding",
    "embeddings.patch_embedding.": "conv1.",
    "embeddings.position_embedding.weight": "positional_embedding",
    "embeddings.token_embedding.": "token_embedding.",
    "pre_layrnorm.": "ln_pre.",
    "post_layernorm.": "ln_post.",
    "final_layer_norm.": "ln_final.",
    "encoder.layers.": "transformer.resblocks.",
}
_LAYER_PARTS = {
    ".layer_norm1.": ".ln_1.",
    ".layer_norm2.": ".ln_2.",
    ".self_attn.": ".attn.",
    ".mlp.fc1.": ".mlp.c_fc.",
    ".mlp.fc2.": ".mlp.c_proj.",
}
_PROJECTIONS = {
    "visual_projection.weight": "visual.proj",
    "text_projection.weight": "text_projection",
}
#: hidden_act -> arguments of open_clip's GELU; QuickGELU has a flag of its own.
_ACTIVATIONS: dict[str, dict[str, str]] = {
    "quick_gelu": {},
    "gelu": {},
    "gelu_pytorch_tanh": {"approximate": "tanh"},
}


def is_transformers_clip(folder: Path) -> bool:
    """Whether a folder's config.json is a ``CLIPModel``'s or a ``MetaClip2Model``'s."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("model_type") in (_CLIP, _METACLIP)


def load_transformers_clip(folder: Path, quick_gelu: bool | None = None) -> ClipViT:
    """Read the model of a folder that transformers' ``save_pretrained`` wrote.

    Args:
        folder: has ``config.json``; ``model.safetensors`` or ``pytorch_model.bin``, perhaps in
            shards; a tokenizer, if it is not OpenAI's; and ``preprocessor_config.json``, if inputs
            are not normalised as OpenAI's.
        quick_gelu: as in ``load_backbone``; None means what the config says.

    Raises:
        ModelError: a file is missing, damaged or another model's, or open_clip can't compute this
            model.
    """
    config = _read_config(folder)
    model_config = _model_config(config, folder)
    own_end = config.model_type == _METACLIP
    tokenizer = transformers_clip_tokenizer(folder, config.text_config, own_end=own_end)
    model = build_model(model_config, str(folder), quick_gelu)
    state = in_open_clip_names(_read_state(folder))
    load_weights(model, state, what=str(folder), name=str(folder / CONFIG))
    preprocess = _preprocessing(folder)
    return ClipViT(
        model.eval(),
        tokenizer=tokenizer,
        mean=preprocess.get("image_mean"),
        std=preprocess.get("image_std"),
        name=folder.absolute().name,
        config=with_activation(model_config, quick_gelu),
    )


def open_clip_form(folder: Path) -> dict[str, Any]:
    """open_clip's ``model_cfg`` of a folder's model. Raises ModelError."""
    return _model_config(_read_config(folder), folder)


def in_open_clip_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A ``CLIPModel``'s state dict under open_clip's names; unknown names are kept."""
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        if name in _PROJECTIONS:
            found[_PROJECTIONS[name]] = value.T.contiguous()
        elif ".self_attn.q_proj." in name:
            parts = [state.get(name.replace(".q_proj.", f".{one}_proj.")) for one in "qkv"]
            packed = [part for part in parts if part is not None]
            found[_renamed(name).replace("q_proj.", "in_proj_")] = torch.cat(packed)
        elif not any(f".self_attn.{one}_proj." in name for one in "kv"):
            found[_renamed(name)] = value
    return found


def _renamed(name: str) -> str:
    for tower, ours in _TOWERS.items():
        if name.startswith(tower):
            rest = name.removeprefix(tower)
            for part in _PARTS:
                if rest.startswith(part):
                    rest = _PARTS[part] + rest.removeprefix(part)
                    break
            for part in _LAYER_PARTS:
                rest = rest.replace(part, _LAYER_PARTS[part])
            return ours + rest
    return name


def _read_config(folder: Path) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # damaged files cause many types of errors
        raise ModelError(f"{folder / CONFIG}: can't be read ({first_line(error)})") from error


def _model_config(config: Any, folder: Path) -> dict[str, Any]:
    """open_clip's ``model_cfg`` of the same network."""
    vision, text = config.vision_config, config.text_config
    if vision.hidden_act != text.hidden_act or vision.hidden_act not in _ACTIVATIONS:
        raise ModelError(
            f"{folder / CONFIG}: expected one of {', '.join(_ACTIVATIONS)} in both towers,"
            f" found {vision.hidden_act} and {text.hidden_act}{TAKE_ANOTHER}"
        )
    end = (
        {"pool_type": "eos", "eos_id": text.eos_token_id} if config.model_type == _METACLIP else {}
    )
    return {
        "embed_dim": config.projection_dim,
        "quick_gelu": vision.hidden_act == "quick_gelu",
        "vision_cfg": {
            **_tower_config(vision),
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "head_width": vision.hidden_size // vision.num_attention_heads,
        },
        "text_cfg": {
            **_tower_config(text),
            "heads": text.num_attention_heads,
            "context_length": text.max_position_embeddings,
            "vocab_size": text.vocab_size,
            **(end if config.model_type == _METACLIP else {}),
        },
    }


def _tower_config(tower: Any) -> dict[str, Any]:
    return {
        "width": tower.hidden_size,
        "layers": tower.num_hidden_layers,
        # open_clip multiplies it by the width and rounds down.
        "mlp_ratio": (tower.intermediate_size + 0.5) / tower.hidden_size,
        "act_kwargs": _ACTIVATIONS[tower.hidden_act],
        "norm_kwargs": {"eps": tower.layer_norm_eps},
    }


def _read_state(folder: Path) -> dict[str, Tensor]:
    whole = next((folder / file for file in _WEIGHT_FILES if (folder / file).is_file()), None)
    if whole is not None:
        return read_weights(whole)
    state: dict[str, Tensor] = {}
    for file in _WEIGHT_FILES:
        index = folder / f"{file}.index.json"
        if index.is_file():
            for shard in _shards(index):
                state |= read_weights(folder / shard)
            return state
    raise ModelError(f"model folder {folder}: lacks weights; put {_WEIGHT_FILES[0]} there")


def _shards(index: Path) -> list[str]:
    try:
        return sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{index}: expected JSON with a weight_map; copy it again") from error


def _preprocessing(folder: Path) -> dict[str, Any]:
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{path}: expected JSON with image_mean and image_std") from error
