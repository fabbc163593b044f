"""Published captioners by name: where to find the files of their parts, and how to load them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regionlm.errors import ModelError
from regionlm.pretrained.bundle import BundleParts

if TYPE_CHECKING:
    import torch

    from regionlm.backbones.clip_vit import ClipViT


@dataclass(frozen=True)
class Preset:
    """A published CLIPCap checkpoint (MLP mapper, fine-tuned GPT-2, prefix of 10 vectors).

    Args:
        file: file name of the original state dict.
        hub_id: Hugging Face mirror; the original is on Google Drive.
        backbone, pretrained: open_clip name and tag of its CLIP.
        source: where it was published.
    """

    file: str
    hub_id: str
    backbone: str = "ViT-B-32-quickgelu"
    pretrained: str = "openai"
    source: str = "https://github.com/rmokady/CLIP_prefix_caption (MIT)"


PRESETS = {
    "clipcap-coco": Preset("coco_weights.pt", "akhaliq/CLIP-prefix-captioning-COCO-weights"),
    "clipcap-conceptual": Preset(
        "conceptual_weights.pt", "akhaliq/CLIP-prefix-captioning-conceptual-weights"
    ),
}


TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt")
CLIP_FILES = ("open_clip_model.safetensors", "ViT-B-32.pt")


def models_folder() -> Path:
    """The folder for model files of your own: $REGIONLM_MODELS or ~/.cache/regionlm/models."""
    return Path(os.environ.get("REGIONLM_MODELS", Path.home() / ".cache" / "regionlm" / "models"))


def read_preset(
    name: str, *, prefix: str | None, device: str | torch.device, offline: bool
) -> BundleParts:
    """Read the parts of a preset from files in `models_folder()/NAME`, or else from the hub.

    The folder may hold the state dict, GPT-2's tokenizer (tokenizer.json, or vocab.json and
    merges.txt), and OpenAI's CLIP weights (open_clip_model.safetensors or ViT-B-32.pt). All are
    optional.

    Raises:
        ModelError, PrefixModelError: a file is missing (the message says where to put it) or
            damaged.
    """
    from prefix_models.clipcap.original import load_original
    from regionlm.devices import resolve_device

    preset, folder = PRESETS[name], models_folder() / name
    device = resolve_device(device)
    weights = _state_dict(preset, folder, offline)
    tokenizer = _tokenizer(folder, offline)
    clip = _clip_weights(preset, folder, offline)
    prefix_model = load_original(
        weights, tokenizer, encoder=f"{preset.backbone}/{preset.pretrained}"
    )
    backbone = _read_backbone(preset, clip, device, offline)
    if prefix is not None:
        prefix_model = prefix_model.with_prefix(prefix)
    return BundleParts(
        backbone=backbone,
        prefix_model=prefix_model.to(device),
        rescale=True,  # it was trained on embeddings of whole images
        name=name,
        card=None,
    )


def read_preset_backbone(name: str, *, device: str | torch.device, offline: bool) -> ClipViT:
    """Read only the CLIP of a preset; raises as ``read_preset``."""
    preset = PRESETS[name]
    clip = _clip_weights(preset, models_folder() / name, offline)
    return _read_backbone(preset, clip, device, offline)


def _read_backbone(
    preset: Preset, weights: Path, device: str | torch.device, offline: bool
) -> ClipViT:
    from regionlm.backbones.loading import load_backbone

    backbone = load_backbone(
        preset.backbone, pretrained=str(weights), device=device, offline=offline
    )
    backbone.name = f"{preset.backbone}/{preset.pretrained}"
    return backbone


def _state_dict(preset: Preset, folder: Path, offline: bool) -> Path:
    local = folder / preset.file
    if local.exists():
        return local
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(preset.hub_id, preset.file, local_files_only=offline))
    except Exception as error:  # errors of hub, network and file system have no common type
        where = _hub(preset.hub_id, offline)
        raise ModelError(
            f"{preset.file} is neither in {folder} nor in {where} ({type(error).__name__}); get it"
            f" from {preset.source} and put it at {local}"
        ) from error


def _tokenizer(folder: Path, offline: bool) -> Any:
    from prefix_models.clipcap.original import GPT2_HUB_ID, gpt2_tokenizer
    from prefix_models.errors import PrefixModelError

    if any((folder / file).exists() for file in TOKENIZER_FILES):
        return gpt2_tokenizer(folder)
    try:
        return gpt2_tokenizer(GPT2_HUB_ID, offline=offline)
    except PrefixModelError as error:
        raise ModelError(
            f"GPT-2's tokenizer is neither in {folder} nor in {_hub(GPT2_HUB_ID, offline)}; put"
            f" vocab.json and merges.txt (or tokenizer.json) at {folder}"
        ) from error


def _clip_weights(preset: Preset, folder: Path, offline: bool) -> Path:
    import open_clip

    from regionlm.backbones.published_weights import find_weights

    local = [folder / file for file in CLIP_FILES if (folder / file).exists()]
    if local:
        return local[0]
    what = f"{preset.backbone} {preset.pretrained}"
    published = open_clip.get_pretrained_cfg(preset.backbone, preset.pretrained)
    try:
        return find_weights(what, published, offline)
    except ModelError as error:
        where = _hub(published.get("hf_hub", "").rstrip("/"), offline)
        raise ModelError(
            f"the weights of OpenAI's CLIP ViT-B/32 are neither in {folder} nor in {where}; put"
            f" {' or '.join(CLIP_FILES)} at {folder}"
        ) from error


def _hub(repository: str, offline: bool) -> str:
    return "the local hub cache" if offline else f"the hub ({repository})"
