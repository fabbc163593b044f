"""The key of embeddings: all that they depend on, as JSON values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from regionlm.backbones.clip_vit import ClipViT
from regionlm.embedders.embedder import Embedder
from regionlm.errors import InputError
from regionlm.files import write_text, writing
from regionlm.pretrained.file_digests import file_digest

_LAYOUT = 2  # of shards; another number means that all are made anew
_NEWER = {"layers": 1, "speed": "exact", "empty_text": None}
"""Options added later; keys leave them out at these values."""


def backbone_key(backbone: ClipViT) -> dict[str, Any]:
    """Weights, wiring (activation, pooling), and normalisation of images."""
    wiring = f"{backbone.model!r} {backbone.pooling} {backbone.heads}"
    return {
        "weights": weights_digest(backbone.model),
        "wiring": hashlib.sha256(wiring.encode()).hexdigest()[:16],
        "mean": list(backbone.mean),
        "std": list(backbone.std),
    }


def embedder_key(name: str, embedder: Embedder) -> dict[str, Any]:
    """Name, input size, and the values of all options; files are represented by their digest."""
    found: dict[str, Any] = {"name": name, "size": list(embedder.size), "rescaled": True}
    if embedder.resize != "squash":  # the only way of older keys
        found["resize"] = embedder.resize
    for option in fields(embedder.options):
        if option.name in ("size", "resize"):
            continue
        value = getattr(embedder.options, option.name)
        if option.name in _NEWER and value == _NEWER[option.name]:
            continue
        if isinstance(value, str | Path) and Path(value).is_file():
            value = {"file": file_digest(Path(value))}
        found[option.name] = value
    return found


def store_folder(store: Path, name: str, key: Mapping[str, Any]) -> Path:
    """The folder for a key, created if missing, with the key in ``key.json``.

    Raises:
        InputError: the folder is not writable, or holds something else.
    """
    whole = {"layout": _LAYOUT, **key}
    text = json.dumps(whole, indent=2, sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    folder = store / f"{name}-{digest}"
    path = folder / "key.json"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            write_text(path, text)
        found = path.read_text(encoding="utf-8", errors="replace")
    if found != text:
        raise InputError(
            f"{path}: found another key than that of these embeddings; delete the folder"
        )
    return folder


def weights_digest(module: torch.nn.Module) -> str:
    """A short digest of all weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        flat = tensor.detach().cpu().contiguous().flatten()
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
