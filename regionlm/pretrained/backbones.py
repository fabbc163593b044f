"""From a name to a backbone alone: what matching and embedding need of a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from prefix_models.folders import CONFIG
from regionlm.errors import ModelError
from regionlm.pretrained.bundle import BUNDLE, read_bundle_backbone
from regionlm.pretrained.presets import PRESETS, models_folder, read_preset_backbone
from regionlm.pretrained.sources import find_folder

if TYPE_CHECKING:
    import torch

    from regionlm.backbones.clip_vit import ClipViT

_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")


def read_backbone(source: str | Path, *, device: str | torch.device, offline: bool) -> ClipViT:
    """Read a backbone that embeds images and texts, whatever it comes in.

    Args:
        source: mini, a preset or a bundle (folder or hub id), of which the backbone is taken; an
            open_clip name with its tag (``ViT-B-32/openai``), or without where
            ``models_folder()/NAME`` holds one file of weights or a model's folder; a folder or hub
            id (also ``hf-hub:ID``) of open_clip's, or of transformers' ``CLIPModel``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        offline: use files of this machine only.

    Raises:
        ModelError: unknown source, no such backbone, missing, damaged or misfitting files.
    """
    from regionlm.backbones.loading import HUB, is_open_clip_name, load_backbone, split_tag
    from regionlm.backbones.published_weights import download_folder

    name = str(source)
    if name in PRESETS:
        return read_preset_backbone(name, device=device, offline=offline)
    if not Path(source).is_dir() and is_open_clip_name(name):
        local = models_folder() / name.replace("/", "-")
        if split_tag(name)[1] is None and local.is_dir():
            return _from_models_folder(name, local, device)
        return load_backbone(name, device=device, offline=offline)
    if name.startswith(HUB):
        folder = download_folder(name.removeprefix(HUB), offline)
    else:
        folder = find_folder(source, offline, captions=False)
    if BUNDLE.is_kind_of(folder):
        return read_bundle_backbone(folder, device=device)
    return load_backbone(str(folder), device=device, offline=offline)


def _from_models_folder(name: str, folder: Path, device: str | torch.device) -> ClipViT:
    """The model of an open_clip name whose files somebody has put into a folder of that name."""
    from regionlm.backbones.loading import CONFIG_FILE, load_backbone

    if (folder / CONFIG_FILE).is_file() or (folder / CONFIG).is_file():
        return load_backbone(str(folder), device=device, offline=True)
    weights = [path for path in sorted(folder.iterdir()) if path.suffix in _SUFFIXES]
    if len(weights) != 1:
        raise ModelError(
            f"{folder}: expected one file of weights for {name} ({', '.join(_SUFFIXES)}), found"
            f" {len(weights)}"
        )
    return load_backbone(name, pretrained=str(weights[0]), device=device, offline=True)
