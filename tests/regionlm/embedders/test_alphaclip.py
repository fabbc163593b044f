import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision import transforms

from regionlm.backbones import ClipViT
from regionlm.embedders import make_embedder
from regionlm.embedders.alphaclip import AlphaClip
from regionlm.errors import InputError, ModelError


@pytest.mark.parametrize("pool", ["tok", "avg"])
def test_without_alpha_weights_it_is_clip(tiny_clip, write_alphaclip, picture, masks, pool):
    model = tiny_clip(pool, quick_gelu=True)
    checkpoint = write_alphaclip(model, torch.zeros(32, 1, 8, 8))
    found = make_embedder("alphaclip", ClipViT(model), checkpoint=checkpoint)(picture, masks)
    backbone = ClipViT(model)
    wanted = backbone.embed_images(backbone.preprocess(picture)[None])[0]
    torch.testing.assert_close(found.image_embedding, wanted, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.embeddings, wanted.expand(4, -1), atol=1e-5, rtol=1e-4)


def test_alpha_is_a_fourth_channel_of_the_first_convolution(tiny_clip, masks):
    """The same done to open_clip's model from outside; the mask becomes -1.92 and 1.92."""
    model, alpha = tiny_clip(), torch.randn(32, 1, 8, 8)
    pixels, full = torch.randn(3, 32, 32), torch.ones(1, 32, 32)
    mask = torch.zeros(2, 32, 32)
    mask[0, 3:20, 9:30] = mask[1, 31, 31] = 1
    channel = (torch.cat([full, mask]) - 0.5) / 0.26
    hook = model.visual.conv1.register_forward_hook(
        lambda module, args, out: out + F.conv2d(channel[:, None], alpha, stride=8)
    )
    with torch.no_grad():
        wanted = model.encode_image(pixels.expand(3, -1, -1, -1))
    hook.remove()
    found = AlphaClip(ClipViT(model), alpha)(pixels, mask)
    torch.testing.assert_close(found.image_embedding, wanted[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.embeddings, wanted[1:], atol=1e-5, rtol=1e-4)


def test_the_mask_is_squashed_as_published(tiny_clip, picture, masks, monkeypatch):
    """ToTensor, Resize, Normalize(0.5, 0.26), and a convolution."""
    embedder = AlphaClip(ClipViT(tiny_clip()), torch.randn(32, 1, 8, 8), size=(24, 40))
    recipe = transforms.Compose(
        [transforms.ToTensor(), transforms.Resize((24, 40)), transforms.Normalize(0.5, 0.26)]
    )
    alphas = torch.stack([recipe((255 * mask).astype(np.uint8)) for mask in masks])
    wanted = F.conv2d(alphas, embedder.alpha_weight, stride=8).flatten(2).transpose(1, 2)
    seen, trunk = [], ClipViT.trunk

    def record(self, pixels, *, added):
        seen.append(added)
        return trunk(self, pixels, added=added)

    monkeypatch.setattr(ClipViT, "trunk", record)
    embedder(picture, masks)
    found = torch.cat(seen)[1:]  # after the image under a mask of ones
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def test_a_published_file_replaces_the_tower_of_a_copy(tiny_clip, write_alphaclip, picture, masks):
    model, tuned = tiny_clip(), tiny_clip(seed=1)
    alpha = torch.randn(32, 1, 8, 8)
    checkpoint = write_alphaclip(tuned, alpha)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    wanted = AlphaClip(ClipViT(tuned), alpha)(picture, masks).embeddings
    options = {"checkpoint": str(checkpoint), "quick_gelu": False}
    found = make_embedder("alphaclip", ClipViT(model), **options)(picture, masks).embeddings
    torch.testing.assert_close(found, wanted)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("quick", [True, False])
def test_the_activation_is_the_checkpoints_not_the_backbones(
    tiny_clip, write_alphaclip, picture, masks, quick
):
    alpha = torch.randn(32, 1, 8, 8)
    wanted = AlphaClip(ClipViT(tiny_clip(quick_gelu=quick)), alpha)(picture, masks).embeddings
    for own in (True, False):
        model = tiny_clip(quick_gelu=own)
        checkpoint = write_alphaclip(model, alpha)
        options = {} if quick else {"quick_gelu": False}  # quick is the default
        backbone = ClipViT(model)
        found = make_embedder("alphaclip", backbone, checkpoint=checkpoint, **options)
        torch.testing.assert_close(found(picture, masks).embeddings, wanted)
        assert (backbone.blocks()[0].activation.kind == "quick_gelu") == own


def test_files_that_do_not_fit_are_named(tiny_clip, write_alphaclip, tmp_path):
    model = tiny_clip()
    backbone = ClipViT(model)
    cases = [
        (lambda: write_alphaclip(tiny_clip(layers=3)), "unknown"),
        (lambda: write_alphaclip(tiny_clip(layers=1)), "missing"),
        (lambda: write_alphaclip(tiny_clip(width=64)), "differ in size from"),
        (lambda: write_alphaclip(tiny_clip(image_size=64)), "differ in size from"),
        (lambda: write_alphaclip(model, **{"transformer.lora_A": torch.ones(2)}), "lora_A"),
        (lambda: write_alphaclip(model, torch.zeros(32, 2, 8, 8)), "alpha convolution"),
        (lambda: write_alphaclip(model, torch.full((32, 1, 8, 8), torch.nan)), "NaN"),
        (lambda: tmp_path / "none.pth", "no such file"),
    ]
    for write, message in cases:
        with pytest.raises(ModelError, match=message) as caught:
            make_embedder("alphaclip", backbone, checkpoint=write())
        assert "\n" not in str(caught.value)
    torch.save(model.visual.state_dict(), tmp_path / "clip.pth")
    with pytest.raises(ModelError, match=r"no conv1_alpha\.weight"):
        make_embedder("alphaclip", backbone, checkpoint=tmp_path / "clip.pth")
    with pytest.raises(InputError, match="checkpoint"):
        make_embedder("alphaclip", backbone)


def test_code_in_a_checkpoint_is_not_run(tiny_clip, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").touch, ())

    (tmp_path / "bomb.pth").write_bytes(pickle.dumps({"conv1_alpha.weight": Bomb()}))
    with pytest.raises(ModelError, match="not executed"):
        make_embedder("alphaclip", ClipViT(tiny_clip()), checkpoint=tmp_path / "bomb.pth")
    assert not (tmp_path / "ran").exists()
