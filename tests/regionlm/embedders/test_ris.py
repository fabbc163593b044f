import pytest
import torch

from regionlm.backbones import ClipViT
from regionlm.embedders import make_embedder
from regionlm.embedders.coverage import mask_coverage


@pytest.mark.parametrize("blocks", [1, 3])
def test_the_global_feature_is_the_models_own_with_tokens_faded_before_the_last_blocks(
    tiny_clip, blocks
):
    """The same done to open_clip's model from outside."""
    model, pixels = tiny_clip(layers=4), torch.randn(3, 24, 40)
    masks = torch.zeros(3, 48, 50, dtype=torch.bool)
    masks[0, 5:20, 5:30], masks[1, 47, 49], masks[2, 30:] = True, True, True
    native = tiny_clip(layers=4, image_size=(24, 40))
    state = model.state_dict()
    from regionlm.backbones.positions import resample_positions

    position = "visual.positional_embedding"
    state[position] = resample_positions(state[position], (4, 4), (3, 5))
    native.load_state_dict(state)
    factors = torch.cat([torch.ones(3, 1), mask_coverage(masks, (3, 5))], 1)[:, :, None]
    for block in native.visual.transformer.resblocks[-blocks:]:
        block.register_forward_pre_hook(lambda module, args: (args[0] * factors, *args[1:]))
    with torch.no_grad():
        wanted = native.encode_image(pixels.expand(3, -1, -1, -1))
    embedder = make_embedder("ris", ClipViT(model), v=1.0, masked_blocks=blocks)
    found = embedder(pixels, masks)
    torch.testing.assert_close(found.embeddings, wanted, atol=1e-5, rtol=1e-4)


def test_v_weighs_it_against_the_masked_crop(tiny_clip, picture, masks):
    backbone = ClipViT(tiny_clip())
    whole = make_embedder("ris", backbone, v=1.0)(picture, masks).embeddings
    crop = make_embedder("masked_crop", backbone, extent="box")(picture, masks).embeddings
    for options, v in (({}, 0.95), ({"v": 0.3}, 0.3), ({"v": 0}, 0)):
        found = make_embedder("ris", backbone, **options)(picture, masks).embeddings
        wanted = v * whole + (1 - v) * crop
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def test_a_mean_pooled_model_averages_what_is_left(tiny_clip):
    """One masked block, and a mask of one patch: the pooled token is that patch's."""
    model = tiny_clip("avg")
    backbone, pixels = ClipViT(model), torch.randn(3, 32, 32)
    masks = torch.eye(16, dtype=torch.bool).view(16, 4, 4)
    found = make_embedder("ris", backbone, v=1.0, masked_blocks=1)(pixels, masks)
    with torch.no_grad():
        x, _ = backbone.trunk(pixels[None])
        block, head = backbone.blocks()[-1], backbone.head()
        for patch in (0, 7):
            kept = torch.zeros(17, 1)
            kept[0] = kept[1 + patch] = 1
            wanted = head.readout(block(x * kept)[0, 1 + patch])
            torch.testing.assert_close(found.embeddings[patch], wanted, atol=1e-5, rtol=1e-4)


def test_more_blocks_than_there_are_mean_all(tiny_clip, picture, masks):
    backbone = ClipViT(tiny_clip())  # two blocks; the default is three
    wanted = make_embedder("ris", backbone, masked_blocks=2)(picture, masks).embeddings
    assert torch.equal(make_embedder("ris", backbone)(picture, masks).embeddings, wanted)
    one = make_embedder("ris", backbone, masked_blocks=1)(picture, masks).embeddings
    assert (one - wanted).abs().max() > 1e-3
