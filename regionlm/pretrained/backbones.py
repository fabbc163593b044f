"""From a model's name to its backbone alone, which is all that matching and embedding need."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefix_models.folders import CONFIG
from regionlm.errors import ModelError
from regionlm.pretrained.bundle import BUNDLE, read_bundle_backbone
from regionlm.pretrained.presets import PRESETS, models_folder, read_preset_backbone
from regionlm.pretrained.sources import find_folder

if TYPE_CHECKING:
    import torch

    from regionlm.backbones.clip_vit import ClipViT

_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")


def read_backbone(
    source: str | Path,
    *,
    device: str | torch.device,
    offline: bool,
    hub: Mapping[str, Any] | None = None,
) -> ClipViT:
    """Read a backbone from any source that has one.

    Args:
        source: mini, a preset, or a bundle (folder or hub id); a folder or hub id (also
            ``hf-hub:ID``) of an open_clip model or of transformers' ``CLIPModel``,
            ``MetaClip2Model``, ``SiglipModel`` or ``Siglip2Model``; or an open_clip name with its
            tag (``ViT-B-32/openai``). The tag may be left out if
            ``models_folder()/NAME`` is the model's folder or holds one file of weights.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        offline: use only files on this machine.
        hub: options of a download of a hub id, by their names in ``sources.HUB_OPTIONS``.

    Raises:
        ModelError: the source is unknown or has no backbone; or files are missing, damaged or do
            not match.
    """
    from regionlm.backbones.loading import HUB, is_open_clip_name, load_backbone, split_tag
    from regionlm.backbones.published_weights import download_folder

    name = str(source)
    if name in PRESETS:
        return read_preset_backbone(name, device=device, offline=offline)
    if not Path(source).is_dir() and is_open_clip_name(name):
        if split_tag(name)[1] is None:
            return _from_models_folder(name, device)
        return load_backbone(name, device=device, offline=offline)
    if name.startswith(HUB):
        folder = download_folder(name.removeprefix(HUB), offline, **(hub or {}))
    else:
        folder = find_folder(source, offline, captions=False, hub=hub)
    if BUNDLE.is_kind_of(folder):
        return read_bundle_backbone(folder, device=device)
    return load_backbone(str(folder), device=device, offline=offline)


def _from_models_folder(name: str, device: str | torch.device) -> ClipViT:
    """The open_clip model of a name, from the user's folder of that name."""
    from regionlm.backbones.loading import CONFIG_FILE, load_backbone, without_weights

    folder = models_folder() / name.replace("/", "-")
    if not folder.is_dir():
        raise without_weights(name, f"put a file of weights into {folder}")
    if (folder / CONFIG_FILE).is_file() or (folder / CONFIG).is_file():
        return load_backbone(str(folder), device=device, offline=True)
    weights = [path for path in sorted(folder.iterdir()) if path.suffix in _SUFFIXES]
    if len(weights) != 1:
        raise ModelError(
            f"{folder}: expected one file of weights for {name} ({', '.join(_SUFFIXES)}), found"
            f" {len(weights)}"
        )
    return load_backbone(name, pretrained=str(weights[0]), device=device, offline=True)
