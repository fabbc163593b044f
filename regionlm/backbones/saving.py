"""A backbone as a folder that ``load_backbone`` (and open_clip's ``local-dir:``) reads."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import save_file

from regionlm.backbones.clip_vit import ClipViT
from regionlm.backbones.loading import CONFIG_FILE, WEIGHT_FILES
from regionlm.backbones.text_tokenizers import FileTokenizer
from regionlm.errors import ModelError
from regionlm.outputs import write_atomically


def save_backbone(backbone: ClipViT, folder: Path) -> None:
    """Write config, weights and, unless it is open_clip's own, the tokenizer to a new folder.

    Raises:
        ModelError: the backbone doesn't know its open_clip config, or has a tokenizer of a kind
            that isn't a file. InputError, OSError: the folder can't be written.
    """
    if backbone.config is None:
        raise ModelError(
            f"{backbone.name}: can't be saved without its open_clip config; pass config="
            " (open_clip's model_cfg) to ClipViT"
        )
    folder.mkdir(parents=True, exist_ok=True)
    preprocess = {
        "mean": backbone.mean,
        "std": backbone.std,
        "interpolation": "bicubic",
        "resize_mode": "squash",
    }
    config = {"model_cfg": backbone.config, "preprocess_cfg": preprocess}
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    weights = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in backbone.model.state_dict().items()
    }
    write_atomically(
        folder / WEIGHT_FILES[0], lambda aside: save_file(weights, aside, {"format": "pt"})
    )
    _save_tokenizer(backbone, folder)


def _save_tokenizer(backbone: ClipViT, folder: Path) -> None:
    from open_clip import SimpleTokenizer

    tokenizer = backbone.tokenizer
    if isinstance(tokenizer, FileTokenizer):
        tokenizer.save(folder / "tokenizer.json")
    elif not isinstance(tokenizer, SimpleTokenizer):
        raise ModelError(
            f"{backbone.name}: expected a tokenizer that a folder can hold (tokenizer.json or"
            f" open_clip's own), found {type(tokenizer).__name__}"
        )
