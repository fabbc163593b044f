"""From a model's name to its folder, downloaded if necessary, and to its parts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefix_models.folders import CONFIG
from regionlm.errors import InputError, ModelError, NoCaptionsError
from regionlm.pretrained.bundle import (
    PREFIX_MODEL,
    SHIPPED,
    BundleParts,
    read_bundle,
    refuse_without_prefix,
)
from regionlm.pretrained.model_kinds import SPACELESS, is_llava, refuse_other_models
from regionlm.pretrained.presets import PRESETS, read_preset

if TYPE_CHECKING:
    import torch

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")

HUB_OPTIONS = ("revision", "token", "cache_dir", "force_download")
"""Options of a download from the hub, as huggingface_hub calls them."""


def is_hub_id(source: str | Path) -> bool:
    """Whether a model's name can only be that of a hub repository."""
    named = isinstance(source, str) and source not in PRESETS and bool(_HUB_ID.fullmatch(source))
    if not named or str(source).startswith((".", "~")) or Path(source).exists():
        return False
    from regionlm.backbones.loading import is_open_clip_name

    return not is_open_clip_name(str(source)) and _in_other_case(str(source)) is None


def check_hub_options(source: str | Path, hub: Mapping[str, Any], others: str) -> None:
    """Raise InputError for an unknown option of ``from_pretrained``, or one of the hub in vain.

    Args:
        source: the model's name.
        hub: options of a download, by their names in ``HUB_OPTIONS``.
        others: what else ``from_pretrained`` takes, for the message.
    """
    from regionlm.backbones.loading import HUB

    is_there = not hub or is_hub_id(source) or str(source).startswith(HUB)
    for name in hub:
        if name not in HUB_OPTIONS:
            raise InputError(
                f"{name}: not an option of from_pretrained, which has {others},"
                f" {', '.join(HUB_OPTIONS)}"
            )
        if not is_there:
            raise InputError(f"{name}: only a hub id has one, and {source} is none; leave it out")


def read_parts(
    source: str | Path,
    *,
    prefix: str | None,
    device: str | torch.device,
    offline: bool,
    hub: Mapping[str, Any] | None = None,
) -> BundleParts:
    """Read the parts of a bundle or preset; arguments as in ``RegionCaptioner.from_pretrained``.

    ``hub``: options of a download, by their names in ``HUB_OPTIONS``.

    Raises:
        ModelError, PrefixModelError: the source is unknown or a model of another kind, or files are
            missing or damaged.
    """
    if source in PRESETS:
        return read_preset(str(source), prefix=prefix, device=device, offline=offline)
    folder = find_folder(source, offline, hub=hub)
    if is_llava(folder):
        raise ModelError(
            f"{source}: is a LLaVA, {SPACELESS}; use LlavaCaptioner.from_pretrained, or regionlm"
            " caption"
        )
    return read_bundle(folder, prefix=prefix, device=device, offline=offline)


def find_folder(
    source: str | Path,
    offline: bool,
    *,
    captions: bool = True,
    hub: Mapping[str, Any] | None = None,
) -> Path:
    """Return the folder of a model that is not a preset, after a download if necessary.

    Args:
        source: a name of ``SHIPPED``, a folder or a hub id.
        offline: use only files on this machine.
        captions: whether the model should caption; if not, it should embed images and texts.
        hub: as in `read_parts`.

    Raises:
        ModelError: there is no such model, here or on the hub, or it is of an unsuitable kind.
    """
    if source in SHIPPED:
        if captions:
            refuse_without_prefix(SHIPPED[str(source)], str(source))
        return SHIPPED[str(source)]
    if source != "" and Path(source).is_dir():
        refuse_other_models(Path(source), source, captions=captions)
        return Path(source)
    here = str(source).startswith((".", "~"))
    if here and not Path(source).exists():
        raise ModelError(f"there is no folder {str(source)!r}: check the path")
    _refuse_open_clip_name(str(source))
    if (meant := _in_other_case(str(source))) is not None:
        raise ModelError(f"unknown model {str(source)!r}: did you mean {meant}?")
    if is_hub_id(source):
        return _download(str(source), offline, captions, hub or {})
    names = [*PRESETS]
    names[:0] = [n for n, f in SHIPPED.items() if not captions or (f / PREFIX_MODEL).is_dir()]
    others = "the folder of a bundle or of a LLaVA"
    if not captions:
        others = "an open_clip name such as ViT-B-32/openai, the folder of a bundle or of a CLIP"
    raise ModelError(
        f"unknown model {str(source)!r}: expected {', '.join(names)}, {others}, or a hub id such as"
        " user/name"
    )


def _in_other_case(source: str) -> str | None:
    """The model whose name differs in capitals only, such as ViT-B-16-SigLIP/webli, or None."""
    import open_clip

    names = {name.lower(): name for name in (*SHIPPED, *PRESETS, *open_clip.list_models())}
    name, slash, tag = source.lower().rpartition("/")
    if source.lower() in names:
        name, slash, tag = source.lower(), "", ""
    meant = names.get(name)
    tags = open_clip.list_pretrained_tags_by_model(meant) if meant and slash else []
    tag = next((one for one in tags if one.lower() == tag), tag)
    if meant is None or (slash and tag not in tags) or f"{meant}{slash}{tag}" == source:
        return None
    return f"{meant}{slash}{tag}"


def _refuse_open_clip_name(source: str) -> None:
    from regionlm.backbones.loading import is_open_clip_name

    if is_open_clip_name(source):
        raise NoCaptionsError(
            f"{source}: is a CLIP of open_clip's, which writes no captions; use it with match,"
            f" embed or explain, or caption with mini, {', '.join(PRESETS)}, a bundle or a LLaVA"
        )


def _download(hub_id: str, offline: bool, captions: bool, hub: Mapping[str, Any]) -> Path:
    from huggingface_hub import hf_hub_download

    from regionlm.backbones.published_weights import download_folder

    try:
        config = Path(hf_hub_download(hub_id, CONFIG, local_files_only=offline, **hub))
    except Exception:  # no such file, repository or network: reported when the folder is downloaded
        return download_folder(hub_id, offline, **hub)
    refuse_other_models(config.parent, hub_id, captions=captions)  # before gigabytes are fetched
    return download_folder(hub_id, offline, **hub)
