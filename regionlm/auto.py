"""Any model that captions regions, by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from regionlm.errors import InputError
from regionlm.pretrained.model_kinds import is_llava
from regionlm.pretrained.presets import PRESETS
from regionlm.pretrained.sources import find_folder

if TYPE_CHECKING:
    import torch

    from regionlm.captioner import RegionCaptioner
    from regionlm.llava_captioner import LlavaCaptioner


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
    found = find_captioner(source, prefix=prefix, prompt=prompt, offline=offline)
    if found in PRESETS or not is_llava(Path(found)):
        from regionlm.captioner import RegionCaptioner

        return RegionCaptioner.from_pretrained(found, prefix=prefix, device=device, offline=offline)
    from prefix_models.llava import PROMPT
    from regionlm.llava_captioner import LlavaCaptioner

    return LlavaCaptioner.from_pretrained(
        found, prompt=PROMPT if prompt is None else prompt, device=device, offline=offline
    )


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
