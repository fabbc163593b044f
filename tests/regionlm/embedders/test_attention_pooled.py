"""Embedders on attention-pooled models: what each becomes there, against timm's own modules."""

import pytest
import torch

from regionlm.backbones import ClipViT
from regionlm.backbones.hf_siglip import SiglipAsClip
from regionlm.embedders import EMBEDDERS, make_embedder
from regionlm.embedders.coverage import mask_coverage
from regionlm.errors import InputError, ModelError
from tests.regionlm.tiny_siglip import tiny_siglip
from tests.regionlm.tiny_timm import tiny_timm

REFUSED = {"sclip", "clip_surgery", "alphaclip"}


def siglip(**options):
    return tiny_timm("map", class_token=False, **options)


@pytest.fixture(params=["SigLIP", "CoCa"])
def backbone(request, tiny_clip):
    coca = {"attentional_pool": True, "attn_pooler_queries": 3, "attn_pooler_heads": 4}
    return ClipViT(siglip() if request.param == "SigLIP" else tiny_clip(**coca))


@pytest.mark.parametrize("name", sorted(set(EMBEDDERS) - REFUSED))
def test_regions_differ_and_the_image_is_the_models_own(backbone, picture, masks, name):
    found = make_embedder(name, backbone, size=32)(picture, masks)
    assert found.embeddings.shape == (4, 24) and found.embeddings.isfinite().all()
    whole = backbone.embed_images(backbone.preprocess(picture, 32)[None])[0]
    torch.testing.assert_close(found.image_embedding, whole, atol=1e-5, rtol=1e-4)
    assert torch.equal(found.embeddings[0], found.embeddings[1]) == (name == "cls")


@pytest.mark.parametrize("name", sorted(REFUSED))
@pytest.mark.parametrize("model", [siglip, lambda: SiglipAsClip(tiny_siglip())])
def test_what_has_no_meaning_there_is_refused_in_one_line(name, model, tmp_path):
    backbone = ClipViT(model(), name="a SigLIP")
    options = {"checkpoint": tmp_path / "a.pth"} if name == "alphaclip" else {}
    with pytest.raises((InputError, ModelError), match="a SigLIP") as caught:
        make_embedder(name, backbone, **options)
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_maskinversion_starts_and_ends(backbone, picture, masks):
    """With the default score its maps are none at no step, and it moves."""
    found = make_embedder("maskinversion", backbone, size=32)(picture, masks)
    assert (found.relevance >= 0).all() and (found.relevance.flatten(1).amax(1) > 0).all()
    assert (found.cosine_to_image < 1).all()
    assert (found.loss[-1] < found.loss[0])[:2].all()
    stuck = make_embedder("maskinversion", backbone, size=32, score="cosine")(picture, masks)
    assert stuck.relevance.count_nonzero() == 0  # the cosine is at its maximum
    with pytest.raises(InputError, match="layers"):
        make_embedder("maskinversion", backbone, layers=0)


@pytest.mark.parametrize("value_only", [False, True])
def test_maskclip_is_the_pool_of_each_patch_alone(value_only):
    model, pixels = siglip(), torch.randn(3, 32, 32)
    masks = torch.eye(16, dtype=torch.bool).view(16, 4, 4)
    found = make_embedder("maskclip", ClipViT(model), value_only=value_only)(pixels, masks)
    trunk = model.visual.trunk
    if value_only:
        trunk.attn_pool.mlp.register_forward_hook(lambda module, args, out: torch.zeros_like(out))
    with torch.no_grad():
        tokens = trunk.forward_features(pixels[None])
        alone = trunk.head(trunk.fc_norm(trunk.attn_pool(tokens[0][:, None])))
    wanted = torch.nn.functional.normalize(alone, dim=1)
    torch.testing.assert_close(found.embeddings, wanted, atol=1e-5, rtol=1e-4)


def test_ris_fades_tokens_before_the_last_blocks_and_the_pool():
    model, pixels = siglip(depth=3), torch.randn(3, 32, 32)
    masks = torch.zeros(2, 40, 40, dtype=torch.bool)
    masks[0, 5:20, 5:30], masks[1, 33:] = True, True
    found = make_embedder("ris", ClipViT(model), v=1.0, masked_blocks=2)(pixels, masks)
    factors = mask_coverage(masks, (4, 4))[:, :, None]
    trunk = model.visual.trunk
    for module in (*trunk.blocks[-2:], trunk.norm):
        module.register_forward_pre_hook(lambda module, args: (args[0] * factors, *args[1:]))
    with torch.no_grad():
        wanted = model.encode_image(pixels.expand(2, -1, -1, -1))
    torch.testing.assert_close(found.embeddings, wanted, atol=1e-5, rtol=1e-4)
