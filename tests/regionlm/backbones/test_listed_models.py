"""Which of the models that open_clip lists can be read: a table of families that covers all."""

import re

import open_clip
import pytest

from regionlm.backbones import ClipViT, load_backbone
from regionlm.backbones.open_clip_insides import empty_model
from regionlm.errors import TAKE_ANOTHER, ModelError

#: Pattern of names -> one of them that is built (without memory), and its pooling or why it is
#: refused.
FAMILIES = {
    r"(.*roberta.*-|mt5-.*-|nllb-clip-|coca_roberta-)?ViT-[BHLMSeg]-\d\d(?!.*(CLIPA|SigLIP)).*"
    r"|ViT-bigG-14(?!-CLIPA).*|coca_base|nllb-clip-(base|large)": ("ViT-M-32-alt", "cls"),
    r"ViT-.*-CLIPA(-336)?": ("ViT-H-14-CLIPA", "mean"),
    r"EVA01-g-14.*": ("EVA01-g-14", "cls"),
    r"EVA02-[BL].*": ("EVA02-B-16", "cls"),
    r"EVA02-E.*": ("EVA02-E-14", "found EvaBlockPostNorm"),
    r"MobileCLIP2-L-14": ("MobileCLIP2-L-14", "cls"),
    r"MobileCLIP2?-B": ("MobileCLIP-B", "cls"),
    r"MobileCLIP2?-S\d": ("MobileCLIP2-S0", "found FastVit"),
    r"(ViT|nllb).*-(SigLIP|siglip).*": ("ViT-B-32-SigLIP2-256", "attention"),
    r"coca_ViT.*": ("coca_ViT-B-32", "attention"),
    r"PE-Core.*": ("PE-Core-T-16-384", "attention"),
    r"ViTamin-(?!XL).*": ("ViTamin-S", "mean"),
    r"ViTamin-XL.*": ("ViTamin-XL-256", "mean"),
    r"vit_medium_patch16_gap_256": ("vit_medium_patch16_gap_256", "averages normalised patches"),
    r"vit_relpos.*": ("vit_relpos_medium_patch16_cls_224", "found VisionTransformerRelPos"),
    r"convnext.*": ("convnext_tiny", "found ConvNeXt"),
    r"swin.*": ("swin_base_patch4_window7_224", "found SwinTransformer"),
    r"RN.*": ("RN50", "found image tower ModifiedResNet"),
}


LISTED = open_clip.list_models()
BUILT = [family for family in FAMILIES.values() if family[0] in LISTED]  # open_clip 3.0 has fewer


@pytest.mark.parametrize("name", LISTED)
def test_every_listed_model_is_of_one_family(name):
    assert sum(bool(re.fullmatch(pattern, name)) for pattern in FAMILIES) == 1


@pytest.mark.parametrize("name, found", BUILT)
def test_families_are_read_or_refused(name, found):
    config = open_clip.get_model_config(name)
    model = empty_model(config, name)
    assert all(parameter.is_meta for parameter in model.parameters())
    if found in ("cls", "mean", "attention"):
        backbone = ClipViT(model, name=name)
        assert backbone.pooling == backbone.head().pooling == found
        assert backbone.dim == config["embed_dim"]
        return
    with pytest.raises(ModelError, match=found) as caught:
        ClipViT(model, name=name)
    assert str(caught.value).startswith(name) and "\n" not in str(caught.value)
    assert str(caught.value).endswith(TAKE_ANOTHER)


def test_they_are_refused_before_weights_are_looked_for(tmp_path):
    for name in ("convnext_tiny", "EVA02-E-14"):
        with pytest.raises(ModelError, match="found"):
            load_backbone(name, pretrained=str(tmp_path / "nothing.pt"))
