"""The pictures that the pixel-space embedders show to the model."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from regionlm.backbones import ClipViT
from regionlm.embedders import make_embedder
from regionlm.embedders.pictures import as_area, bounding_box
from regionlm.errors import InputError


def shown(embedder, picture, masks):
    return [np.asarray(p) for p in embedder.pictures(picture, torch.as_tensor(masks))]


def noise(height, width):
    values = np.random.default_rng(0).integers(1, 255, (height, width, 3), np.uint8)
    return Image.fromarray(values)


@given(st.integers(1, 9), st.integers(1, 9), st.data())
def test_boxes_are_pils(height, width, data):
    index = data.draw(st.lists(st.integers(0, height * width - 1), min_size=1))
    mask = torch.zeros(height * width, dtype=torch.bool)
    mask[index] = True
    mask = mask.view(height, width)
    assert bounding_box(mask) == as_area(mask).getbbox()


@pytest.mark.parametrize("name, options", [("crop", {}), ("masked_crop", {"extent": "box"})])
def test_embeddings_are_those_of_the_pictures(tiny_clip, picture, masks, name, options):
    backbone = ClipViT(tiny_clip())
    embedder = make_embedder(name, backbone, **options)
    pixels = [backbone.preprocess(Image.fromarray(p)) for p in shown(embedder, picture, masks)]
    wanted = backbone.embed_images(torch.stack(pixels))
    torch.testing.assert_close(embedder(picture, masks).embeddings, wanted, atol=1e-5, rtol=1e-4)


def test_crop_is_the_box(tiny_clip, picture, masks):
    pictures = shown(make_embedder("crop", ClipViT(tiny_clip())), picture, masks)
    pixels = np.asarray(picture)
    assert np.array_equal(pictures[0], pixels[3:17, 5:21])
    assert np.array_equal(pictures[3], pixels[29:, 39:])


@pytest.mark.parametrize("extent", ["image", "box"])
def test_masked_crop_leaves_the_region_and_nothing_else(tiny_clip, picture, masks, extent):
    backbone = ClipViT(tiny_clip(), mean=[0.1, 0.5, 0.9])
    pictures = shown(make_embedder("masked_crop", backbone, extent=extent), picture, masks)
    for found, mask in zip(pictures, masks, strict=True):
        rows, columns = np.nonzero(mask)
        box = slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)
        here, pixels = (mask, np.asarray(picture)) if extent == "image" else (
            mask[box], np.asarray(picture)[box])  # fmt: skip
        assert np.array_equal(found[here], pixels[here])
        assert (found[~here] == [26, 128, 230]).all()  # 255 times the mean


@pytest.mark.parametrize("thickness, line", [(0.01, 2), (0.03, 6), (0.001, 1)])
def test_red_circle_is_a_line_through_the_boxs_edge(tiny_clip, thickness, line):
    picture, mask = noise(200, 300), torch.zeros(1, 200, 300, dtype=torch.bool)
    mask[0, 40:121, 100:221] = True
    embedder = make_embedder("red_circle", ClipViT(tiny_clip()), thickness=thickness)
    (found,) = shown(embedder, picture, mask)
    painted = (found != np.asarray(picture)).any(2)
    assert (found[painted] == [255, 0, 0]).all()
    across, down = painted[:, 160].nonzero()[0], painted[80].nonzero()[0]
    # two crossings each, `line` pixels thick, about rows 40 and 120, columns 100 and 220
    for crossings, edges in ((across, (40, 120)), (down, (100, 220))):
        assert len(crossings) == 2 * line
        middles = crossings[:line].mean(), crossings[line:].mean()
        assert np.abs(np.subtract(middles, edges)).max() <= 0.5
    y, x = np.nonzero(painted)
    radius = np.hypot((y - 80) / 40, (x - 160) / 60)
    assert np.abs(radius - 1).max() * 40 <= line / 2 + 1.5


def test_red_circles_at_the_border_and_around_a_pixel(tiny_clip, picture, masks):
    embedder = make_embedder("red_circle", ClipViT(tiny_clip()), thickness=1000.0)
    assert all(p.shape == (30, 40, 3) for p in shown(embedder, picture, masks))
    thin = make_embedder("red_circle", ClipViT(tiny_clip()))
    (found,) = shown(thin, picture, masks[3:])
    assert tuple(found[29, 39]) == (255, 0, 0)


def test_fgvp_blurs_all_but_the_region(tiny_clip):
    picture, masks = noise(96, 150), np.zeros((2, 96, 150), bool)
    masks[0, 10:50, 20:100] = masks[1, 95, 0] = True
    pictures = shown(make_embedder("fgvp", ClipViT(tiny_clip()), blur=20.0), picture, masks)
    blurred = np.asarray(picture.filter(ImageFilter.GaussianBlur(20 * 96 / 384)))
    for found, mask in zip(pictures, masks, strict=True):
        assert np.array_equal(found[mask], np.asarray(picture)[mask])
        assert np.array_equal(found[~mask], blurred[~mask])
    assert blurred.std() < np.asarray(picture).std() / 4


def test_fgvp_blurs_once_per_image(tiny_clip, picture, masks, monkeypatch):
    radii = []
    original = ImageFilter.GaussianBlur

    def record(radius):
        radii.append(radius)
        return original(radius)

    monkeypatch.setattr(ImageFilter, "GaussianBlur", record)
    shown(make_embedder("fgvp", ClipViT(tiny_clip())), picture, masks)
    assert radii == [pytest.approx(100 * 30 / 384)]


def test_fgvp_of_a_plain_picture_is_the_picture(tiny_clip, masks):
    plain = Image.new("RGB", (40, 30), (10, 200, 77))
    pictures = shown(make_embedder("fgvp", ClipViT(tiny_clip()), blur=1e6), plain, masks)
    assert all(np.array_equal(found, np.asarray(plain)) for found in pictures)


def sixteen_bit():
    """The same picture with 8 and with 16 bits."""
    grey = noise(40, 56).convert("L")
    return Image.fromarray(np.asarray(grey).astype(np.uint16) * 257), grey


def half_transparent():
    clear = noise(40, 56).convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    white = Image.new("RGBA", clear.size, "white")
    return clear, Image.alpha_composite(white, clear)


@pytest.mark.parametrize("kind", [sixteen_bit, half_transparent])
@pytest.mark.parametrize("name", ["crop", "red_circle", "fgvp", "ris", "cls", "maskclip"])
def test_pictures_of_all_modes_are_read_as_files_are(tiny_clip, kind, name):
    given, wanted = kind()
    assert given.mode in ("I;16", "RGBA")
    masks = np.zeros((1, 40, 56), bool)
    masks[0, 5:20, 9:30] = True
    embedder = make_embedder(name, ClipViT(tiny_clip()))
    found, same = (embedder(picture, masks) for picture in (given, wanted.convert("RGB")))
    assert torch.equal(found.embeddings, same.embeddings)


@pytest.mark.parametrize("name", ["crop", "maskclip"])
def test_pictures_of_unknown_range_are_refused(tiny_clip, name):
    embedder = make_embedder(name, ClipViT(tiny_clip()))
    picture = Image.fromarray(np.ones((40, 56), np.float32))
    with pytest.raises(InputError, match="floating-point samples"):
        embedder(picture, np.ones((1, 40, 56), bool))
