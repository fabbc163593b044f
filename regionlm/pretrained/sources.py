"""From what a user calls a model to its folder, if need be after a download, and to its parts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from prefix_models.folders import CONFIG
from regionlm.errors import ModelError
from regionlm.pretrained.bundle import MINI, BundleParts, read_bundle
from regionlm.pretrained.presets import PRESETS, read_preset

if TYPE_CHECKING:
    import torch

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def read_parts(
    source: str | Path, *, prefix: str | None, device: str | torch.device, offline: bool
) -> BundleParts:
    """Read the parts of a bundle or a preset; arguments as in ``RegionCaptioner.from_pretrained``.

    Raises:
        ModelError, PrefixModelError: unknown source, a LLaVA, or missing or damaged files.
    """
    if source in PRESETS:
        return read_preset(str(source), prefix=prefix, device=device, offline=offline)
    folder = find_folder(source, offline)
    if is_llava(folder):
        raise ModelError(
            f"{source}: is a LLaVA, which captions only and has no space to match or embed in; use"
            " LlavaCaptioner.from_pretrained, or regionlm caption"
        )
    return read_bundle(folder, prefix=prefix, device=device, offline=offline)


def find_folder(source: str | Path, offline: bool) -> Path:
    """Find the folder of a model that is no preset, if need be after a download.

    Raises:
        ModelError: there is none, here or on the hub.
    """
    if source == "mini":
        return MINI
    if source != "" and Path(source).is_dir():
        return Path(source)
    here = str(source).startswith((".", "~"))
    if here and not Path(source).exists():
        raise ModelError(f"there is no folder {str(source)!r}: check the path")
    if isinstance(source, str) and _HUB_ID.fullmatch(source) and not Path(source).exists():
        return _download(source, offline)
    raise ModelError(
        f"unknown model {str(source)!r}: expected mini, {', '.join(PRESETS)}, the folder of a"
        " bundle or of a LLaVA, or a hub id such as user/name"
    )


def is_llava(folder: Path) -> bool:
    """Whether a folder's config.json says that it is a ``LlavaForConditionalGeneration``."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("model_type") == "llava"


def _download(hub_id: str, offline: bool) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(hub_id, local_files_only=offline))
    except Exception as error:  # the hub's, the network's and the file system's have no common type
        place = "in the local hub cache" if offline else "on the hub"
        raise ModelError(
            f"no bundle {hub_id!r} {place} ({type(error).__name__}); mistyped? else give a folder"
        ) from error
