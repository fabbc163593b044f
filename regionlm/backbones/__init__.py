"""Frozen vision-language encoders."""

from regionlm.backbones.clip_vit import ClipViT, EncodedImages
from regionlm.backbones.loading import load_backbone

__all__ = ["ClipViT", "EncodedImages", "load_backbone"]
