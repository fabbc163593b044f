"""Embedders by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from regionlm.backbones.clip_vit import ClipViT
from regionlm.backbones.vision import VisionBackbone
from regionlm.embedders.alphaclip import AlphaClip
from regionlm.embedders.clip_surgery import ClipSurgery
from regionlm.embedders.crop import Crop, MaskedCrop
from regionlm.embedders.embedder import Embedder
from regionlm.embedders.fgvp import Fgvp
from regionlm.embedders.maskclip import MaskClip
from regionlm.embedders.maskinversion import MaskInversion
from regionlm.embedders.options import check_embedder
from regionlm.embedders.red_circle import RedCircle
from regionlm.embedders.ris import Ris
from regionlm.embedders.sclip import Sclip
from regionlm.embedders.whole_image import WholeImage
from regionlm.errors import InputError

EMBEDDERS: dict[str, Callable[..., Embedder]] = {
    "maskinversion": MaskInversion,
    "cls": WholeImage,
    "crop": Crop,
    "masked_crop": MaskedCrop,
    "red_circle": RedCircle,
    "fgvp": Fgvp,
    "ris": Ris,
    "maskclip": MaskClip,
    "clip_surgery": ClipSurgery,
    "sclip": Sclip,
    "alphaclip": AlphaClip.from_checkpoint,
}
"""What the MaskInversion paper compares; the options of each are in `EMBEDDER_OPTIONS`."""


def make_embedder(name: str, backbone: VisionBackbone, **options: Any) -> Embedder:
    """An embedder by its name in ``EMBEDDERS``.

    Raises:
        InputError: unknown name or option (the message lists all), an option out of range, or a
            backbone without texts, such as a LLaVA's, for another embedder than maskinversion.
        ModelError: a checkpoint that can't be used.
    """
    check_embedder(name, options)
    if name != "maskinversion" and not isinstance(backbone, ClipViT):
        raise InputError(
            f"embedder: expected maskinversion with {backbone.name}, which has no space of images"
            f" and texts, found {name}; leave it out"
        )
    return EMBEDDERS[name](backbone, **options)


def check_fit(name: str, backbone: VisionBackbone, **options: Any) -> None:
    """Raise as `make_embedder` does, but for what is wrong with a checkpoint.

    The backbone may be without memory: only its form is looked at.
    """
    check_embedder(name, options)
    if name == "alphaclip":
        AlphaClip.refuse_other_towers(backbone)
        options, name = {one: options.get(one) for one in ("size", "resize")}, "cls"
    make_embedder(name, backbone, **options)


def as_embedder(embedder: str | Embedder, backbone: VisionBackbone, **options: Any) -> Embedder:
    """An embedder by name, with those options that are not None; or a ready one, as it is.

    Raises:
        InputError: as `make_embedder`, or options beside a ready embedder.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if not isinstance(embedder, Embedder):
        return make_embedder(embedder, backbone, **given)
    if given:
        raise InputError(
            f"{next(iter(given))}: the embedder that was given has options of its own; set it there"
        )
    return embedder
