"""A bundle: one folder (or hub repository) with everything a RegionCaptioner is made of.

```
config.json      format, name, rescale, inversion defaults, what the backbone must look like
backbone/        open_clip_config.json, open_clip_model.safetensors, tokenizer files
prefix_model/    any prefix model's folder, see prefix_models.loading
README.md        model card, where there is one
```
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefix_models.folders import CONFIG, FolderKind
from regionlm.errors import InputError, ModelError

if TYPE_CHECKING:
    import torch

    from regionlm.backbones.clip_vit import ClipViT
    from regionlm.captioner import RegionCaptioner
    from regionlm.llava_captioner import LlavaCaptioner

BUNDLE = FolderKind("bundle", "regionlm/bundle", 1, ModelError)
BACKBONE, PREFIX_MODEL, CARD = "backbone", "prefix_model", "README.md"
MINI = Path(__file__).parents[1] / "bundles" / "mini"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def load(
    source: str | Path, *, prefix: str | None, device: str | torch.device, offline: bool
) -> RegionCaptioner:
    """See ``RegionCaptioner.from_pretrained``."""
    from regionlm.pretrained.presets import PRESETS, load_preset

    if source in PRESETS:
        return load_preset(str(source), prefix=prefix, device=device, offline=offline)
    folder = _folder(source, offline)
    if _is_llava(folder):
        raise ModelError(
            f"{source}: is a LLaVA, which captions only and has no space to match or embed in; use"
            " LlavaCaptioner.from_pretrained, or regionlm caption"
        )
    return load_folder(folder, prefix=prefix, device=device, offline=offline)


def load_captioner(
    source: str | Path,
    *,
    prefix: str | None = None,
    prompt: str | None = None,
    device: str | torch.device = "auto",
    offline: bool = False,
) -> RegionCaptioner | LlavaCaptioner:
    """Load whatever captions regions: a bundle, a preset, or an unmodified LLaVA.

    Args:
        source, device, offline: as in ``RegionCaptioner.from_pretrained``; or the folder or hub id
            of a LLaVA.
        prefix: of a bundle or preset.
        prompt: what a LLaVA is asked; None takes `prefix_models.llava.PROMPT`.

    Raises:
        InputError: a prefix for a LLaVA, or a prompt for anything else. ModelError,
            PrefixModelError: unknown source, missing or damaged files.
    """
    from regionlm.pretrained.presets import PRESETS

    folder = None if source in PRESETS else _folder(source, offline)
    if folder is None or not _is_llava(folder):
        if prompt is not None:
            raise InputError(
                f"prompt: {source} captions without one, only a LLaVA is asked; leave it out"
            )
        return load(source, prefix=prefix, device=device, offline=offline)
    if prefix is not None:
        raise InputError(f"prefix: {source} is a LLaVA, which has none; leave it out")
    from prefix_models.llava import PROMPT
    from regionlm.llava_captioner import LlavaCaptioner

    return LlavaCaptioner.from_pretrained(
        folder, prompt=PROMPT if prompt is None else prompt, device=device, offline=offline
    )


def _folder(source: str | Path, offline: bool) -> Path:
    """Where a model's files are, if need be after a download."""
    from regionlm.pretrained.presets import PRESETS

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


def _is_llava(folder: Path) -> bool:
    """Whether a folder's config.json says that it is a ``LlavaForConditionalGeneration``."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("model_type") == "llava"


def load_folder(
    folder: Path,
    *,
    prefix: str | None = None,
    device: str | torch.device = "auto",
    offline: bool = False,
) -> RegionCaptioner:
    """Load a bundle from its folder.

    Raises:
        ModelError, PrefixModelError: a file is missing or damaged, or parts don't fit each other.
    """
    config = _read_config(folder)
    from prefix_models.loading import load_prefix_model
    from regionlm.backbones.loading import load_backbone
    from regionlm.captioner import RegionCaptioner
    from regionlm.devices import resolve_device

    device = resolve_device(device)
    if not (folder / BACKBONE).is_dir():
        raise ModelError(f"{folder}: has no folder {BACKBONE}/; the bundle is incomplete")
    backbone = load_backbone(str(folder / BACKBONE), device=device, offline=True)
    backbone.name = config["backbone"]["name"]
    backbone.inversion_defaults = dict(config["inversion"])
    _check_backbone(backbone, config["backbone"], folder)
    prefix_model = load_prefix_model(
        folder / PREFIX_MODEL, prefix=prefix, device=device, offline=offline
    )
    captioner = RegionCaptioner(
        backbone, prefix_model, rescale=config["rescale"], name=config["name"]
    )
    captioner.card = _read_card(folder / CARD)
    return captioner


def save(captioner: RegionCaptioner, folder: Path) -> None:
    """See ``RegionCaptioner.save_pretrained``."""
    from regionlm.backbones.saving import save_backbone

    with BUNDLE.replacing(folder, lambda staging: _read_back(captioner, staging)) as staging:
        save_backbone(captioner.backbone, staging / BACKBONE)
        captioner.prefix_model.save_pretrained(staging / PREFIX_MODEL)
        if captioner.card is not None:
            (staging / CARD).write_text(captioner.card, encoding="utf-8")
        BUNDLE.write_config(staging, _describe(captioner))


def _read_back(captioner: RegionCaptioner, folder: Path) -> None:
    """Raise ModelError unless a folder reads as what was written; its prefix model has done so."""
    from regionlm.backbones.loading import load_backbone

    config, written = _read_config(folder), _describe(captioner)
    if {name: config[name] for name in written} != json.loads(json.dumps(written)):
        raise ModelError(f"{folder / CONFIG} reads otherwise than it was written")
    backbone = load_backbone(str(folder / BACKBONE), device="cpu", offline=True)
    _check_backbone(backbone, config["backbone"], folder)
    kept = backbone.model.state_dict()
    for name, value in captioner.backbone.model.state_dict().items():
        if not value.cpu().equal(kept[name].to(value.dtype)):
            raise ModelError(f"{folder / BACKBONE}: the weight {name} is not the one in memory")


def _describe(captioner: RegionCaptioner) -> dict[str, Any]:
    return {
        "name": captioner.name,
        "rescale": captioner.rescale,
        "inversion": captioner.backbone.inversion_defaults,
        "backbone": {"name": captioner.backbone.name, **_features(captioner.backbone)},
    }


def _features(backbone: ClipViT) -> dict[str, Any]:
    """What the prefix model was trained against; a backbone that differs gives other vectors."""
    return {
        "dim": backbone.dim,
        "patch_size": list(backbone.patch_size),
        "pooling": backbone.pooling,
        "mean": list(backbone.mean),
        "std": list(backbone.std),
    }


def _check_backbone(backbone: ClipViT, wanted: dict[str, Any], folder: Path) -> None:
    for name, found in _features(backbone).items():
        if wanted.get(name) != found:
            raise ModelError(
                f"{folder}: {CONFIG} expects a backbone with {name} {wanted.get(name)}, "
                f"{BACKBONE}/ has {found}; the parts are of different bundles"
            )


def _read_config(folder: Path) -> dict[str, Any]:
    config, path = BUNDLE.read_config(folder), folder / CONFIG
    kinds = {"name": str, "rescale": bool, "inversion": dict, "backbone": dict}
    for key, kind in kinds.items():
        if not isinstance(config.get(key), kind):
            raise ModelError(f"{path}: expected {key} to be a {kind.__name__}, found nothing such")
    if not isinstance(config["backbone"].get("name"), str):
        raise ModelError(f"{path}: expected backbone.name to be a text")
    return config


def _read_card(path: Path) -> str | None:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None


def _download(hub_id: str, offline: bool) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(hub_id, local_files_only=offline))
    except Exception as error:  # the hub's, the network's and the file system's have no common type
        place = "in the local hub cache" if offline else "on the hub"
        raise ModelError(
            f"no bundle {hub_id!r} {place} ({type(error).__name__}); mistyped? else give a folder"
        ) from error
