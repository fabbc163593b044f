"""Any model by name, with its trunk computed as asked for."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from regionlm.backbones.trunk_options import AS_USUAL, TrunkOptions
from regionlm.errors import InputError
from regionlm.pretrained.model_kinds import is_llava
from regionlm.pretrained.presets import PRESETS
from regionlm.pretrained.sources import find_folder

if TYPE_CHECKING:
    import torch

    from regionlm.captioner import RegionCaptioner
    from regionlm.encoder import RegionEncoder
    from regionlm.llava_captioner import LlavaCaptioner


def load_captioner(
    source: str | Path,
    *,
    prefix: str | None = None,
    prompt: str | None = None,
    trunk: TrunkOptions = AS_USUAL,
    device: str | torch.device = "auto",
    offline: bool = False,
) -> RegionCaptioner | LlavaCaptioner:
    """Load whatever captions regions: a bundle, a preset, or an unmodified LLaVA.

    Args:
        source, device, offline: as in ``RegionCaptioner.from_pretrained``; or the folder or hub id
            of a LLaVA.
        prefix: of a bundle or preset.
        prompt: what a LLaVA is asked; None takes `prefix_models.llava.PROMPT`.
        trunk: how the image's trunk is computed; checked before any weights are read.

    Raises:
        InputError: a prefix for a LLaVA, a prompt for anything else, or a trunk that can't be
            computed so. ModelError, PrefixModelError: unknown source, missing or damaged files.
    """
    _check_trunk(trunk, device)
    found = find_captioner(source, prefix=prefix, prompt=prompt, offline=offline)
    captioner: RegionCaptioner | LlavaCaptioner
    if found in PRESETS or not is_llava(Path(found)):
        from regionlm.captioner import RegionCaptioner

        captioner = RegionCaptioner.from_pretrained(
            found, prefix=prefix, device=device, offline=offline
        )
    else:
        _refuse_trunk_of_llava(trunk, found)
        from prefix_models.llava import PROMPT
        from regionlm.llava_captioner import LlavaCaptioner

        captioner = LlavaCaptioner.from_pretrained(
            found, prompt=PROMPT if prompt is None else prompt, device=device, offline=offline
        )
    captioner.backbone.set_trunk(**asdict(trunk))
    return captioner


def find_captioner(
    source: str | Path, *, prefix: str | None = None, prompt: str | None = None, offline: bool
) -> str | Path:
    """The name of a preset, or the folder of what captions regions, after a download if necessary.

    Arguments and errors as in `load_captioner`, but for what only loading tells.
    """
    found = source if source in PRESETS else find_folder(source, offline)
    if found in PRESETS or not is_llava(Path(found)):
        if prompt is not None:
            raise InputError(f"prompt: only a LLaVA takes one, which {source} is not; leave it out")
    elif prefix is not None:
        raise InputError(f"prefix: {source} is a LLaVA, which has none; leave it out")
    return found


def load_encoder(
    source: str | Path,
    *,
    trunk: TrunkOptions = AS_USUAL,
    device: str | torch.device = "auto",
    offline: bool = False,
) -> RegionEncoder:
    """Load whatever embeds regions; arguments and errors as in ``RegionEncoder.from_pretrained``.

    trunk: as in `load_captioner`, and refused as there.
    """
    _check_trunk(trunk, device)
    from regionlm.encoder import RegionEncoder

    encoder = RegionEncoder.from_pretrained(source, device=device, offline=offline)
    encoder.backbone.set_trunk(**asdict(trunk))
    return encoder


def _check_trunk(trunk: TrunkOptions, device: str | torch.device) -> None:
    if trunk != AS_USUAL:
        from regionlm.backbones.trunk_run import check_trunk

        check_trunk(trunk, device)


def _refuse_trunk_of_llava(trunk: TrunkOptions, source: str | Path) -> None:
    """Raise InputError, as `HfClipViT.set_trunk` would once gigabytes are loaded."""
    if trunk != AS_USUAL:
        from regionlm.pretrained.outlines import outline_llava

        outline = outline_llava(source)
        if outline is not None:
            outline.set_trunk(**asdict(trunk))
