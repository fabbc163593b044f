"""A bundle: a folder (or hub repository) with all parts of a RegionCaptioner.

```
config.json      format, name, rescale, inversion defaults, properties of the backbone
backbone/        open_clip_config.json, open_clip_model.safetensors, tokenizer files
prefix_model/    any prefix model's folder, see prefix_models.dispatch; without it, it embeds
README.md        model card, if there is one
```
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from prefix_models.folders import CONFIG, FolderKind
from regionlm.errors import ModelError, NoCaptionsError

if TYPE_CHECKING:
    import torch

    from prefix_models.base import PrefixModel
    from regionlm.backbones.clip_vit import ClipViT

BUNDLE = FolderKind("bundle", "regionlm/bundle", 1, ModelError)
BACKBONE, PREFIX_MODEL, CARD = "backbone", "prefix_model", "README.md"
BUNDLES = Path(__file__).parents[1] / "bundles"
MINI = BUNDLES / "mini"
SHIPPED = {"mini": MINI, "mini-siglip": BUNDLES / "mini-siglip"}
"""Bundles that come with the package, by name."""


class BundleParts(TypedDict):
    """The parts of a captioner: the arguments of ``RegionCaptioner``."""

    backbone: ClipViT
    prefix_model: PrefixModel
    rescale: bool
    name: str
    card: str | None


def read_bundle(
    folder: Path, *, prefix: str | None, device: str | torch.device, offline: bool
) -> BundleParts:
    """Read the parts of a bundle from its folder.

    Args:
        folder: the bundle's folder.
        prefix: name of one of the prefix model's prefixes; None means its default.
        device, offline: as in ``RegionCaptioner.from_pretrained``.

    Raises:
        ModelError, PrefixModelError: a file is missing or damaged, or the parts do not match.
    """
    config = _read_config(folder)
    refuse_without_prefix(folder, config["name"])
    from prefix_models.dispatch import load_prefix_model
    from regionlm.devices import resolve_device

    device = resolve_device(device)
    backbone = read_bundle_backbone(folder, device=device)
    prefix_model = load_prefix_model(
        folder / PREFIX_MODEL, prefix=prefix, device=device, offline=offline
    )
    return BundleParts(
        backbone=backbone,
        prefix_model=prefix_model,
        rescale=config["rescale"],
        name=config["name"],
        card=_read_card(folder / CARD),
    )


def read_bundle_backbone(folder: Path, *, device: str | torch.device) -> ClipViT:
    """Read only the backbone of a bundle; raises as ``read_bundle``."""
    config = _read_config(folder)
    from regionlm.backbones.loading import load_backbone

    if not (folder / BACKBONE).is_dir():
        raise ModelError(f"{folder}: the bundle is incomplete, it has no folder {BACKBONE}/")
    backbone = load_backbone(str(folder / BACKBONE), device=device, offline=True)
    backbone.name = config["backbone"]["name"]
    backbone.inversion_defaults = dict(config["inversion"])
    _check_backbone(backbone, config["backbone"], folder)
    return backbone


def refuse_without_prefix(folder: Path, name: str) -> None:
    """Raise NoCaptionsError if a bundle has a backbone only."""
    if (folder / BACKBONE).is_dir() and not (folder / PREFIX_MODEL).exists():
        raise NoCaptionsError(
            f"{name}: the bundle has no {PREFIX_MODEL}/, so it writes no captions; use it with"
            " match, embed or explain, or caption with mini"
        )


def write_bundle(parts: BundleParts, folder: Path) -> None:
    """Write a bundle; see ``RegionCaptioner.save_pretrained``."""
    about = _describe(parts["backbone"], parts["name"], parts["rescale"])
    with _writing(parts["backbone"], about, folder) as staging:
        parts["prefix_model"].save_pretrained(staging / PREFIX_MODEL)
        if parts["card"] is not None:
            (staging / CARD).write_text(parts["card"], encoding="utf-8")


def write_backbone_bundle(backbone: ClipViT, name: str, folder: Path) -> None:
    """Write a bundle without a prefix model: a backbone with its defaults of MaskInversion.

    Raises:
        ModelError: as ``RegionCaptioner.save_pretrained``.
    """
    with _writing(backbone, _describe(backbone, name, True), folder):
        pass


@contextmanager
def _writing(backbone: ClipViT, about: dict[str, Any], folder: Path) -> Iterator[Path]:
    """Yield the unfinished folder of a bundle, to which all but a prefix model is written."""
    from regionlm.backbones.saving import save_backbone

    check = partial(_read_back, backbone, about)
    with BUNDLE.replacing(folder, check) as staging:
        save_backbone(backbone, staging / BACKBONE)
        yield staging
        BUNDLE.write_config(staging, about)


def _read_back(written_backbone: ClipViT, written: dict[str, Any], folder: Path) -> None:
    """Raise ModelError unless the folder holds what was written; prefix models check themselves."""
    from regionlm.backbones.loading import load_backbone

    config = _read_config(folder)
    if {name: config[name] for name in written} != json.loads(json.dumps(written)):
        raise ModelError(f"{folder / CONFIG} was not written correctly")
    backbone = load_backbone(str(folder / BACKBONE), device="cpu", offline=True)
    _check_backbone(backbone, config["backbone"], folder)
    kept = backbone.model.state_dict()
    for name, value in written_backbone.model.state_dict().items():
        if not value.cpu().equal(kept[name].to(value.dtype)):
            raise ModelError(f"{folder / BACKBONE}: the weight {name} is not the one in memory")


def _describe(backbone: ClipViT, name: str, rescale: bool) -> dict[str, Any]:
    return {
        "name": name,
        "rescale": rescale,
        "inversion": backbone.inversion_defaults,
        "backbone": {"name": backbone.name, **_features(backbone)},
    }


def _features(backbone: ClipViT) -> dict[str, Any]:
    """Properties of the backbone that the prefix model was trained with."""
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
                f"{BACKBONE}/ has {found}; the parts belong to different bundles"
            )


def _read_config(folder: Path) -> dict[str, Any]:
    config, path = BUNDLE.read_config(folder), folder / CONFIG
    kinds = {"name": str, "rescale": bool, "inversion": dict, "backbone": dict}
    for key, kind in kinds.items():
        if not isinstance(config.get(key), kind):
            raise ModelError(
                f"{path}: expected {key} to be a {kind.__name__}, found {config.get(key)!r}"
            )
    if not isinstance(config["backbone"].get("name"), str):
        raise ModelError(f"{path}: expected backbone.name to be a text")
    return config


def _read_card(path: Path) -> str | None:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None
