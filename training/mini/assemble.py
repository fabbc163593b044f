"""Assemble the trained parts into the bundle that ships in the package."""

from pathlib import Path
from typing import Any

from prefix_models.clipcap.model import ClipCap
from regionlm.backbones.loading import load_backbone
from regionlm.captioner import RegionCaptioner


def make_bundle(backbone: Path, decoder: Path, output: Path, inversion: dict[str, Any]) -> None:
    """Write the bundle `mini`.

    Args:
        backbone: folder that `export` wrote.
        decoder: ClipCap folder that `adapt` wrote.
        output: bundle folder to write.
        inversion: defaults of MaskInversion for this model: steps, lr, alpha, size.
    """
    clip = load_backbone(str(backbone), device="cpu")
    clip.inversion_defaults = inversion
    RegionCaptioner(clip, ClipCap.from_pretrained(decoder), name="mini").save_pretrained(output)
