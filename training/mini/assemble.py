"""Assemble the trained parts into the bundles that ship in the package."""

from pathlib import Path
from typing import Any

from prefix_models.clipcap.model import ClipCap
from regionlm.backbones.loading import load_backbone
from regionlm.captioner import RegionCaptioner
from regionlm.pretrained.bundle import write_backbone_bundle


def make_bundle(
    backbone: Path,
    output: Path,
    inversion: dict[str, Any],
    decoder: Path | None = None,
    name: str = "mini",
) -> None:
    """Write a bundle.

    Args:
        backbone: folder that `export` wrote.
        output: bundle folder to write.
        inversion: defaults of MaskInversion for this model: steps, lr, alpha, size.
        decoder: ClipCap folder that `adapt` wrote; a bundle without it only embeds, and its weights
            are written in half precision.
        name: of the bundle.
    """
    clip = load_backbone(str(backbone), device="cpu")
    clip.inversion_defaults = inversion
    if decoder is None:
        clip.model.half()
        write_backbone_bundle(clip, name, output)
        return
    RegionCaptioner(clip, ClipCap.from_pretrained(decoder), name=name).save_pretrained(output)
