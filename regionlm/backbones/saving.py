"""Save a backbone as a folder for ``load_backbone`` and open_clip's ``local-dir:``."""

from __future__ import annotations

import json
import shutil
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import save_file

from regionlm.backbones.clip_vit import ClipViT
from regionlm.backbones.hf_siglip import SiglipAsClip
from regionlm.backbones.open_clip_insides import CONFIG_FILE, TOKENIZER_NAME, WEIGHT_FILES
from regionlm.backbones.text_tokenizers import FileTokenizer, folder_tokenizer
from regionlm.backbones.transformers_siglip import save_transformers_siglip
from regionlm.errors import ModelError
from regionlm.files import write_atomically

_LOCAL = "local"  # open_clip needs some name, but then reads the folder's files
_TRIALS = ["a photo of a dog", "A \u201cCafé\u201d &amp; \ufb01sh_2", "word " * 300]


def save_backbone(backbone: ClipViT, folder: Path) -> None:
    """Write config, weights and, unless it is open_clip's own, the tokenizer to a new folder.

    The config names the tokenizer, so that open_clip's loader also uses it. A SigLIP that came from
    transformers is written for transformers.

    Raises:
        ModelError: the backbone doesn't know its open_clip config, or has a tokenizer that can't be
            saved or that the config does not describe; nothing is written.
        InputError, OSError: the folder can't be written.
    """
    if isinstance(backbone.model, SiglipAsClip):
        save_transformers_siglip(backbone, folder)
        return
    if backbone.config is None:
        raise ModelError(
            f"{backbone.name}: can't be saved without its open_clip config; pass config="
            " (open_clip's model_cfg) to ClipViT"
        )
    with TemporaryDirectory() as scratch:
        described = Path(scratch)
        _describe(backbone, described)
        folder.mkdir(parents=True, exist_ok=True)
        for file in described.iterdir():
            shutil.copyfile(file, folder / file.name)
    weights = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in backbone.model.state_dict().items()
    }
    write_atomically(
        folder / WEIGHT_FILES[0], lambda aside: save_file(weights, aside, {"format": "pt"})
    )


def _describe(backbone: ClipViT, folder: Path) -> None:
    """Write everything but the weights, and read it back."""
    model_config: dict[str, Any] = deepcopy(dict(backbone.config or {}))
    text_config = model_config["text_cfg"]
    if _save_tokenizer(backbone, folder):
        text_config.setdefault(TOKENIZER_NAME, _LOCAL)
    preprocess = {
        "mean": backbone.mean,
        "std": backbone.std,
        "interpolation": "bicubic",
        "resize_mode": "squash",
    }
    config = {"model_cfg": model_config, "preprocess_cfg": preprocess}
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    if not _reads_alike(folder, text_config, backbone.tokenizer):
        raise ModelError(
            f"{backbone.name}: expected the tokenizer that its open_clip config describes"
            f" ({TOKENIZER_NAME}, context_length, tokenizer_kwargs in text_cfg), found another;"
            " pass a config that fits the tokenizer to ClipViT"
        )


def _reads_alike(folder: Path, text_config: dict[str, Any], tokenizer: Any) -> bool:
    try:
        return torch.equal(folder_tokenizer(folder, text_config)(_TRIALS), tokenizer(_TRIALS))
    except ModelError:
        return False


def _save_tokenizer(backbone: ClipViT, folder: Path) -> bool:
    """Write the tokenizer's files; return whether the config must name it."""
    from open_clip import SimpleTokenizer

    tokenizer: Any = backbone.tokenizer
    if isinstance(tokenizer, FileTokenizer):
        return tokenizer.save(folder)
    if isinstance(tokenizer, SimpleTokenizer):
        return False
    if not hasattr(tokenizer, "save_pretrained"):
        raise ModelError(
            f"{backbone.name}: expected a tokenizer that can be saved (tokenizer.json or"
            f" open_clip's), found {type(tokenizer).__name__}"
        )
    tokenizer.save_pretrained(folder)
    return True
