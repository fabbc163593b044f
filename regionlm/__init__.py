"""Say what is in a region of an image, in words or as a vector, with a frozen CLIP.

Names are imported on first use, so that the command line answers before torch is loaded.
"""

from typing import TYPE_CHECKING

from prefix_models.lazy import on_first_use

if TYPE_CHECKING:
    from regionlm.backbones.clip_vit import ClipViT
    from regionlm.backbones.loading import load_backbone
    from regionlm.captioner import RegionCaption, RegionCaptioner
    from regionlm.embedders.embedder import Embedder
    from regionlm.embedders.embedder_registry import make_embedder
    from regionlm.embedders.localized import Localized, RegionEmbeddings
    from regionlm.embedders.maskinversion import MaskInversion
    from regionlm.encoder import RegionEncoder, RegionMatch
    from regionlm.errors import InputError, ModelError
    from regionlm.inputs.masks import Region, as_masks, box_region, read_regions
    from regionlm.inputs.views import ImageView
    from regionlm.llava_captioner import LlavaCaptioner
    from regionlm.pretrained.listing import list_models

_HOMES = {
    "ClipViT": "backbones.clip_vit",
    "Embedder": "embedders.embedder",
    "ImageView": "inputs.views",
    "InputError": "errors",
    "LlavaCaptioner": "llava_captioner",
    "Localized": "embedders.localized",
    "MaskInversion": "embedders.maskinversion",
    "ModelError": "errors",
    "Region": "inputs.masks",
    "RegionCaption": "captioner",
    "RegionCaptioner": "captioner",
    "RegionEmbeddings": "embedders.localized",
    "RegionEncoder": "encoder",
    "RegionMatch": "encoder",
    "as_masks": "inputs.masks",
    "box_region": "inputs.masks",
    "list_models": "pretrained.listing",
    "load_backbone": "backbones.loading",
    "make_embedder": "embedders.embedder_registry",
    "read_regions": "inputs.masks",
}

__all__ = [
    "ClipViT",
    "Embedder",
    "ImageView",
    "InputError",
    "LlavaCaptioner",
    "Localized",
    "MaskInversion",
    "ModelError",
    "Region",
    "RegionCaption",
    "RegionCaptioner",
    "RegionEmbeddings",
    "RegionEncoder",
    "RegionMatch",
    "as_masks",
    "box_region",
    "list_models",
    "load_backbone",
    "make_embedder",
    "read_regions",
]


__getattr__ = on_first_use(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
