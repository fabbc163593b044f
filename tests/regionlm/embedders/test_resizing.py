"""`resize`: squashed, padded or in the image's own shape; maps and masks follow the image."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from regionlm import ImageView
from regionlm.backbones import ClipViT
from regionlm.embedders import EMBEDDERS, make_embedder
from regionlm.embedders.coverage import mask_coverage
from regionlm.embedders.options import EMBEDDER_OPTIONS, check_embedder
from regionlm.errors import InputError
from regionlm.inputs.placement import place
from tests.regionlm.tiny_timm import EVA02, tiny_timm

MODES = ("squash", "pad", "native")


def options(name, **more):
    return {"steps": 2, **more} if name == "maskinversion" else more


def noise(width, height, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(values)


def halves(width, height):
    masks = np.zeros((2, height, width), bool)
    masks[0, :, : width // 2] = masks[1, height // 2 :] = True
    return masks


@pytest.mark.parametrize("name", EMBEDDERS)
def test_a_square_image_gives_the_same_bits_under_all_modes(make, tiny_clip, name):
    backbone, picture, masks = ClipViT(tiny_clip()), noise(50, 50), halves(50, 50)
    if name == "crop" or name == "ris":
        masks[:] = True  # crops have shapes of their own
    found = [
        make(name, backbone, size=32, **options(name, resize=mode))(picture, masks)
        for mode in MODES
    ]
    for one in found[1:]:
        assert one.embeddings.equal(found[0].embeddings)
        assert one.image_embedding.equal(found[0].image_embedding)
    if name == "maskinversion":
        assert all(one.heatmaps().equal(found[0].heatmaps()) for one in found)


@pytest.mark.parametrize("name", EMBEDDERS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(60, 20), (9, 70)], ids=str)
def test_the_image_is_embedded_as_it_is_resized(make, tiny_clip, name, mode, shape):
    backbone, picture, masks = ClipViT(tiny_clip()), noise(*shape), halves(*shape)
    embedder = make(name, backbone, size=32, **options(name, resize=mode))
    found = embedder(picture, masks)
    assert embedder.resize == mode and torch.isfinite(found.embeddings).all()
    pixels = backbone.preprocess(picture, 32, mode)
    assert tuple(pixels.shape[1:]) == place(shape, (32, 32), (8, 8), mode).size
    if name != "alphaclip":  # whose image embedding saw a mask of ones
        wanted = backbone.embed_images(pixels[None])[0]
        torch.testing.assert_close(found.image_embedding, wanted, atol=1e-5, rtol=1e-4)


def test_squash_is_what_it_was_to_the_bit(tiny_clip, picture):
    backbone = ClipViT(tiny_clip())
    small = picture.resize((40, 24), Image.Resampling.BICUBIC)
    values = torch.from_numpy(np.array(small, dtype=np.float32)).permute(2, 0, 1) / 255
    mean, std = (torch.tensor(v)[:, None, None] for v in (backbone.mean, backbone.std))
    wanted = (values - mean) / std
    assert backbone.preprocess(picture, (24, 40)).equal(wanted)
    assert backbone.preprocess(picture, (24, 40), "squash").equal(wanted)


def test_padding_is_the_mean_colour_beside_the_picture(tiny_clip):
    backbone, picture = ClipViT(tiny_clip()), noise(64, 16)
    padded = backbone.preprocess(picture, 32, "pad")
    assert padded.shape == (3, 32, 32)
    assert padded[:, 8:16].equal(backbone.preprocess(picture, (8, 32)))
    assert padded[:, :8].count_nonzero() == padded[:, 16:].count_nonzero() == 0


@pytest.mark.parametrize("mode", MODES)
def test_maps_are_the_images_own(make, tiny_clip, mode):
    """Cut the padding off the upsampled map, then scale, resize and compare: the long way."""
    shape = (70, 31)
    backbone, picture, masks = ClipViT(tiny_clip()), noise(*shape), halves(*shape)
    found = make("maskinversion", backbone, size=40, resize=mode, steps=3)(picture, masks)
    placed = place(shape, (40, 40), (8, 8), mode)
    (top, bottom), (left, right) = placed.spans
    rows, columns = slice(top // 8, -(-bottom // 8)), slice(left // 8, -(-right // 8))
    part = found.relevance[:, rows, columns].double()
    wide = F.interpolate(part[:, None], scale_factor=8, mode="bilinear", align_corners=False)
    cut = wide[:, :, : bottom - top, : right - left]  # an image begins with a patch
    low, high = cut.amin((2, 3), keepdim=True), cut.amax((2, 3), keepdim=True)
    size = (shape[1], shape[0])
    unit = F.interpolate((cut - low) / (high - low), size=size, mode="bilinear")[:, 0]
    torch.testing.assert_close(found.heatmaps().double(), unit, atol=1e-5, rtol=0)
    inside = torch.as_tensor(masks)
    overlap, mass = (unit * inside).sum((1, 2)), unit.sum((1, 2)) + inside.sum((1, 2))
    wanted = (2 * overlap + 1) / (mass + 1)
    torch.testing.assert_close(found.dice.double(), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(70, 31), (31, 70), (3, 90), (64, 64)], ids=str)
def test_masks_cover_the_patches_that_the_image_covers(shape):
    masks = torch.as_tensor(halves(*shape))
    placed = place(shape, (40, 40), (8, 8), "pad")
    (top, bottom), (left, right) = placed.spans
    canvas = torch.zeros(2, 1, 40, 40, dtype=torch.float64)
    fitted = F.interpolate(masks[:, None].double(), size=placed.extent, mode="area")
    exact = [shape[axis] % placed.extent[1 - axis] == 0 for axis in (0, 1)]
    canvas[:, :, top:bottom, left:right] = fitted
    wanted = F.avg_pool2d(canvas, 8).flatten(1).float()
    found = mask_coverage(masks, (5, 5), placed)
    assert (found[wanted == 0] <= 0.1).all() and found.max() <= 1
    area = placed.extent[0] * placed.extent[1] / 64  # in patches
    torch.testing.assert_close(found.sum(1), masks.float().mean((1, 2)) * area)
    if all(exact):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("name", EMBEDDERS)
def test_modes_and_sizes_in_turn_never_touch_each_other(make, tiny_clip, name):
    model, masks, picture = tiny_clip(), halves(60, 20), noise(60, 20)
    asked = [(mode, size) for size in (32, 24, (16, 40), 32) for mode in MODES]
    backbone, view = ClipViT(model), ImageView(picture)

    def embedded(backbone, image, mode, size):
        embedder = make(name, backbone, size=size, **options(name, resize=mode))
        return embedder(image, masks).embeddings

    wanted = [embedded(ClipViT(model), picture, *one) for one in asked]
    for image in (picture, view, view):  # the last time from what the view has kept
        found = [embedded(backbone, image, *one) for one in asked]
        assert all(one.equal(other) for one, other in zip(found, wanted, strict=True))
    assert not wanted[0].equal(wanted[1]) and not wanted[1].equal(wanted[2])


@pytest.mark.parametrize("name", ["crop", "maskinversion", "alphaclip", "maskclip"])
@pytest.mark.parametrize("mode", MODES)
def test_images_of_many_shapes_together(make, tiny_clip, name, mode):
    shapes = [(60, 20), (20, 60), (20, 60), (33, 33)]
    embedder = make(name, ClipViT(tiny_clip()), size=32, **options(name, resize=mode))
    images = [noise(*shape, seed) for seed, shape in enumerate(shapes)]
    sets = [halves(*shape) for shape in shapes]
    together = embedder.localize_batch(images, sets)
    for found, image, masks in zip(together, images, sets, strict=True):
        alone = embedder(image, masks).embeddings
        torch.testing.assert_close(found.embeddings, alone, atol=1e-3, rtol=1e-3)


def test_a_models_default_and_what_is_refused(make, tiny_clip, picture, masks):
    backbone = ClipViT(tiny_clip(), inversion_defaults={"size": 32, "resize": "native"})
    for name in EMBEDDERS:
        assert make(name, backbone).resize == "native"
        assert make(name, backbone, resize="pad").resize == "pad"
        assert make(name, ClipViT(tiny_clip())).resize == "squash"
        given = {"checkpoint": "x"} if name == "alphaclip" else {}
        with pytest.raises(InputError, match="resize: expected one of squash, pad, native; found"):
            check_embedder(name, {**given, "resize": "crop"})
    assert all("resize" in kind.__dataclass_fields__ for kind in EMBEDDER_OPTIONS.values())
    wrong = ClipViT(tiny_clip(), inversion_defaults={"resize": "crop"})
    with pytest.raises(InputError, match="resize"):
        make("cls", wrong)


def test_preprocessed_pixels_are_whole(make, tiny_clip, picture, masks):
    """Of pixels nobody knows what is padding: they are taken as filled."""
    backbone = ClipViT(tiny_clip())
    pixels = backbone.preprocess(picture, 32)
    wanted = make("maskclip", backbone, size=32)(pixels, masks).embeddings
    assert make("maskclip", backbone, size=32, resize="pad")(pixels, masks).embeddings.equal(wanted)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("tower", ["attention pool", "rotary positions"])
def test_other_towers_follow(tower, mode):
    """A query of its own, and positions that turn queries and keys, on grids of any shape."""
    chosen = {"pool": "map", "name": "regionlm_tiny_siglip"}
    if tower == "rotary positions":
        chosen = {"name": "regionlm_tiny_eva", **EVA02}
    backbone, shape = ClipViT(tiny_timm(**chosen)), (90, 30)
    picture, masks = noise(*shape), halves(*shape)
    embedder = make_embedder("maskinversion", backbone, size=32, resize=mode, steps=3)
    found = embedder(picture, masks)
    wanted = backbone.embed_images(backbone.preprocess(picture, 32, mode)[None])[0]
    torch.testing.assert_close(found.image_embedding, wanted, atol=1e-5, rtol=1e-4)
    rows, columns = place(shape, (32, 32), (8, 8), mode).size
    assert found.relevance.shape == (2, rows // 8, columns // 8)
    assert found.heatmaps().shape == (2, 30, 90) and found.heatmaps().max() > 0.9
    again = make_embedder("maskinversion", ClipViT(backbone.model), size=32, resize=mode, steps=3)
    assert again(picture, masks).embeddings.equal(found.embeddings)


@pytest.mark.parametrize("name", ["alphaclip", "maskclip", "sclip", "clip_surgery", "cls"])
@pytest.mark.parametrize("shape", [(32, 16), (16, 32), (32, 12)], ids=str)
def test_masks_are_padded_like_their_image(make, tiny_clip, name, shape):
    """The same by hand, of an image that needs no resizing."""
    backbone, picture, masks = ClipViT(tiny_clip()), noise(*shape), halves(*shape)
    pixels = backbone.preprocess(picture, 32, "pad")
    (top, bottom), (left, right) = place(shape, (32, 32), (8, 8), "pad").spans
    padded = np.zeros((2, 32, 32), bool)
    padded[:, top:bottom, left:right] = masks
    found = make(name, backbone, size=32, resize="pad")(picture, masks).embeddings
    wanted = make(name, backbone, size=32)(pixels, padded).embeddings
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
