"""Frozen vision-language encoders."""

from regionlm.backbones.clip_vit import ClipViT
from regionlm.backbones.loading import load_backbone
from regionlm.backbones.vision import EncodedImages

__all__ = ["ClipViT", "EncodedImages", "load_backbone"]
