"""The model behind a service."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from regionlm.auto import load_captioner, load_encoder
from regionlm.backbones.trunk_options import AS_USUAL, TrunkOptions
from regionlm.errors import NoCaptionsError

if TYPE_CHECKING:
    from regionlm.captioner import RegionCaptioner
    from regionlm.encoder import RegionEncoder
    from regionlm.llava_captioner import LlavaCaptioner


def load_model(
    source: str | Path,
    *,
    prefix: str | None = None,
    prompt: str | None = None,
    trunk: TrunkOptions = AS_USUAL,
    device: str = "auto",
    offline: bool = False,
) -> RegionCaptioner | RegionEncoder | LlavaCaptioner:
    """Any model that `regionlm caption`, `match`, `embed` or `explain` takes; arguments and errors
    as in `regionlm.auto.load_captioner`."""
    try:
        return load_captioner(
            source, prefix=prefix, prompt=prompt, trunk=trunk, device=device, offline=offline
        )
    except NoCaptionsError:
        return load_encoder(source, trunk=trunk, device=device, offline=offline)
