"""Frozen vision-language encoders.

Names are imported on first use: ``backbones.trunk_options`` can be read before torch is loaded.
"""

from typing import TYPE_CHECKING

from prefix_models.lazy import on_first_use

if TYPE_CHECKING:
    from regionlm.backbones.clip_vit import ClipViT
    from regionlm.backbones.loading import load_backbone
    from regionlm.backbones.vision import EncodedImages

_HOMES = {"ClipViT": "clip_vit", "EncodedImages": "vision", "load_backbone": "loading"}

__all__ = ["ClipViT", "EncodedImages", "load_backbone"]


__getattr__ = on_first_use(__name__, _HOMES)
