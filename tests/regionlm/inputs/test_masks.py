"""Regions from mask files, boxes and arrays (refusals of files and boxes: `bad_input/`)."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageDraw

from regionlm.errors import InputError
from regionlm.inputs.masks import Region, as_masks, as_regions, box_region, read_regions

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12)
MASKS = hnp.arrays(bool, SHAPES).filter(np.any)


def _split(picture: Image.Image | np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Read a picture's regions without a file: as_masks and files share one rule."""
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    return [(region.name, region.mask) for region in as_regions(picture, picture.size)]


def _palette(indices: np.ndarray, colours: list[int]) -> Image.Image:
    picture = Image.fromarray(indices.astype(np.uint8)).convert("L")
    picture = Image.frombytes("P", picture.size, picture.tobytes())
    picture.putpalette(colours)
    return picture


ENCODINGS = {
    "1-bit": lambda m: Image.fromarray(m),
    "0/1": lambda m: Image.fromarray(m.astype(np.uint8)),
    "0/255": lambda m: Image.fromarray(m.astype(np.uint8) * 255),
    "16-bit 0/1": lambda m: Image.fromarray(m.astype(np.uint16)),
    "16-bit 0/255": lambda m: Image.fromarray(m.astype(np.uint16) * 255),
    "16-bit 0/65535": lambda m: Image.fromarray(m.astype(np.uint16) * 65535),
    "32-bit 0/1": lambda m: Image.fromarray(m.astype(np.int32)),
    "float 0/1": lambda m: Image.fromarray(m.astype(np.float32)),
    "palette black, white": lambda m: _palette(m, [0, 0, 0, 255, 255, 255]),
    "palette white, black": lambda m: _palette(~m, [255, 255, 255, 0, 0, 0]),
    "palette black, red": lambda m: _palette(m, [0, 0, 0, 128, 0, 0]),
    "grey RGB": lambda m: Image.fromarray(m[..., None].repeat(3, 2).astype(np.uint8) * 255),
    "red on black": lambda m: Image.fromarray(m[..., None] * np.array([255, 0, 0], np.uint8)),
    "opaque RGBA": lambda m: Image.fromarray(m.astype(np.uint8) * 255).convert("RGBA"),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@settings(max_examples=20)  # times fourteen encodings
@given(mask=MASKS)
def test_every_encoding_of_one_mask_reads_the_same(encoding: str, mask: np.ndarray) -> None:
    assume(encoding != "red on black" or not mask.all())  # one colour alone marks nothing
    [(name, found)] = _split(ENCODINGS[encoding](mask))
    assert name == "mask 0"
    assert found.dtype == bool
    assert np.array_equal(found, mask)


@given(mask=MASKS)
def test_varying_alpha_is_the_mask(mask: np.ndarray) -> None:
    assume(not mask.all())
    noise = np.random.default_rng(0).integers(0, 256, (*mask.shape, 3), dtype=np.uint8)
    alpha = np.where(mask, 128, 127).astype(np.uint8)
    [(_, found)] = _split(np.dstack([noise, alpha]))
    assert np.array_equal(found, mask)


@given(labels=hnp.arrays(np.uint8, SHAPES, elements=st.integers(0, 63)), wide=st.booleans())
def test_label_maps_give_one_region_a_label(labels: np.ndarray, wide: bool) -> None:
    assume(labels.max() > 1 and len(np.unique(labels)) > 1)
    found = _split(labels.astype(np.uint16) if wide else labels)
    expected = [label for label in np.unique(labels).tolist() if label]
    assert [name for name, _ in found] == [f"mask 0#{label}" for label in expected]
    for (_, mask), label in zip(found, expected, strict=True):
        assert np.array_equal(mask, labels == label)


@given(indices=hnp.arrays(np.uint8, SHAPES))
def test_palette_indices_are_labels_and_255_is_void(indices: np.ndarray) -> None:
    used = set(np.unique(indices).tolist())
    assume(not used <= {0, 1} and used != {0, 255} and used != {255})
    colours = [c for i in range(256) for c in (i, 255 - i, 0)]
    names = [name for name, _ in _split(_palette(indices, colours))]
    assert names == [f"mask 0#{label}" for label in sorted(used - {0, 255})]


def test_voc_style_file(tmp_path: Path) -> None:
    indices = np.zeros((6, 8), np.uint8)
    indices[1:3, 1:4], indices[4:, 5:], indices[3] = 1, 15, 255
    _palette(indices, [0, 0, 0, 128, 0, 0] + [50, 60, 70] * 254).save(tmp_path / "seg.png")
    path = str(tmp_path / "seg.png")
    regions = read_regions(path, (8, 6))
    assert [region.name for region in regions] == [f"{path}#1", f"{path}#15"]
    assert [int(region.mask.sum()) for region in regions] == [6, 6]


def test_a_greyscale_map_keeps_its_void_while_labels_are_larger() -> None:
    labels = np.zeros((6, 8), np.uint8)
    labels[1:3, 1:4], labels[5] = 2, 255
    labels[5, :3] = 0  # five of void, six of label 2
    assert [name for name, _ in _split(labels)] == ["mask 0#2"]
    labels[5] = 255
    with pytest.raises(InputError, match=r"more of 255 \(8 pixels\) .* labels together \(6\)"):
        _split(labels)
    [(name, mask)] = _split(_palette(labels, [c for i in range(256) for c in (i, 255 - i, 0)]))
    assert name == "mask 0#2" and mask.sum() == 6  # a palette says that they are labels


def test_16_bit_instance_map_with_large_labels() -> None:
    labels = np.array([[0, 1000, 26001, 26002, 65535]], np.uint16)
    labels[0, -1] = 0
    assert [n for n, _ in _split(labels)] == [f"mask 0#{v}" for v in (1000, 26001, 26002)]


@given(
    radius=st.integers(10, 40), x=st.integers(0, 96), y=st.integers(0, 96), factor=st.integers(2, 8)
)
def test_smoothed_masks_are_cut_in_the_middle(radius: int, x: int, y: int, factor: int) -> None:
    big = Image.new("L", (96 * factor, 96 * factor))
    corners = [(v + d) * factor for d in (-radius, radius) for v in (x, y)]
    ImageDraw.Draw(big).ellipse(corners, fill=255)
    small = np.asarray(big.reduce(factor))
    [(name, found)] = _split(small)
    assert name == "mask 0"
    assert np.array_equal(found, small >= 128)


@pytest.mark.parametrize("quality", [60, 75, 95])
def test_a_jpeg_mask_loses_its_noise(tmp_path: Path, quality: int) -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[9:41, 13:50] = 255
    Image.fromarray(mask).save(tmp_path / "m.jpg", quality=quality)
    assert len(np.unique(np.asarray(Image.open(tmp_path / "m.jpg")))) > 2
    [region] = read_regions(tmp_path / "m.jpg", (64, 64))
    assert np.array_equal(region.mask, mask > 0)


@given(values=hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=3, max_side=4)))
def test_any_picture_gives_sound_regions_or_a_one_line_error(values: np.ndarray) -> None:
    if values.ndim == 3 and values.shape[2] not in (3, 4):
        values = values[..., 0]
    try:
        found = _split(values)
    except InputError as error:
        assert "mask 0" in str(error) and "\n" not in str(error)
        return
    masks = np.stack([mask for _, mask in found])
    assert masks.dtype == bool and masks.shape[1:] == values.shape[:2]
    assert masks.any(axis=(1, 2)).all()
    assert masks.sum(axis=0).max() == 1  # labels don't overlap


def test_full_mask_is_allowed() -> None:
    assert as_masks(np.full((3, 4), 255, np.uint8), (4, 3)).all()


def test_mask_files_are_turned_upright_too(tmp_path: Path) -> None:
    mask = np.zeros((4, 6), np.uint8)
    mask[0, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(mask).save(tmp_path / "m.png", exif=exif)
    [region] = read_regions(tmp_path / "m.png", (4, 6))
    assert np.argwhere(region.mask).tolist() == [[0, 3]]


# --- boxes ---------------------------------------------------------------------------------


@given(data=st.data(), width=st.integers(1, 30), height=st.integers(1, 30))
def test_whole_boxes_cover_exactly_their_pixels(
    data: st.DataObject, width: int, height: int
) -> None:
    x0, y0 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    x1, y1 = data.draw(st.integers(x0 + 1, width)), data.draw(st.integers(y0 + 1, height))
    region = box_region((x0, y0, x1, y1), (width, height))
    expected = np.zeros((height, width), bool)
    expected[y0:y1, x0:x1] = True
    assert np.array_equal(region.mask, expected)
    assert region.name == f"box {x0},{y0},{x1},{y1}"
    assert np.array_equal(box_region(f" {x0}, {y0},{x1},{y1}", (width, height)).mask, expected)


SPANS = st.tuples(st.floats(0, 18), st.floats(1, 20)).map(lambda p: (p[0], min(sum(p), 20)))


@given(x=SPANS, y=SPANS)
def test_fractional_boxes_take_pixels_by_their_centres(
    x: tuple[float, float], y: tuple[float, float]
) -> None:
    assume(max(x[1], y[1]) > 1)
    found = box_region((x[0], y[0], x[1], y[1]), (20, 20)).mask
    expected = [
        [x[0] <= column + 0.5 < x[1] and y[0] <= row + 0.5 < y[1] for column in range(20)]
        for row in range(20)
    ]
    assert found.tolist() == expected


def test_box_of_the_whole_image_is_full() -> None:
    assert box_region("0,0,7,5", (7, 5)).mask.all()


@pytest.mark.parametrize("box", [(1, 2, 3), (1, 2, "x", 4), (1, 2, math.inf, 4), (1, None, 3, 4)])
def test_python_boxes_are_checked_like_text(box: tuple[object, ...]) -> None:
    with pytest.raises(InputError, match="expected four numbers X0,Y0,X1,Y1"):
        box_region(box, (9, 9))


# --- arrays --------------------------------------------------------------------------------

TWO = np.array([[[1, 0, 0], [0, 0, 1]], [[0, 1, 1], [1, 1, 1]]])


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32, np.float16])
def test_arrays_of_any_dtype(dtype: type) -> None:
    assert np.array_equal(as_masks(TWO.astype(dtype), (3, 2)), TWO.astype(bool))
    assert np.array_equal(as_masks(TWO[0].astype(dtype), (3, 2)), TWO[:1].astype(bool))
    if dtype is not bool:
        assert np.array_equal(as_masks((255 * TWO).astype(dtype), (3, 2)), TWO.astype(bool))


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float32, torch.bfloat16])
def test_tensors_of_any_dtype(dtype: torch.dtype) -> None:
    tensor = torch.tensor(TWO).to(dtype)
    before = tensor.clone()
    if dtype.is_floating_point:
        tensor.requires_grad_()
    assert np.array_equal(as_masks(tensor, (3, 2)), TWO.astype(bool))
    assert torch.equal(tensor.detach(), before)


def test_lists_mix_everything_in_order(tmp_path: Path) -> None:
    labels = np.array([[0, 2, 3], [0, 0, 0]], np.uint8)
    Image.fromarray(labels).save(tmp_path / "m.png")
    items = [
        TWO.astype(bool),
        tmp_path / "m.png",
        torch.tensor(TWO[0]),
        Image.fromarray(TWO[1].astype(np.uint8) * 255),
        box_region("0,0,1,1", (3, 2)),
    ]
    found = as_regions(items, (3, 2))
    path = str(tmp_path / "m.png")
    assert [region.name for region in found] == [
        *("mask 0", "mask 1", f"{path}#2", f"{path}#3", "mask 4", "mask 5", "box 0,0,1,1")
    ]
    assert as_masks(items, (3, 2)).shape == (7, 2, 3)


EMPTY = np.zeros((2, 3), bool)


@pytest.mark.parametrize(
    ("masks", "fragment"),
    [
        ([], "no region given"),
        (np.zeros((0, 2, 3), bool), "no region given"),
        (EMPTY, "mask 0 is empty"),
        ([TWO[0], EMPTY], "mask 1 is empty"),
        (np.stack([~EMPTY, EMPTY]), "mask 1 is empty"),
        (TWO * 0.5, "found the values 0, 0.5"),
        (TWO[0] * 3, "labels == k"),
        (np.full((2, 3), np.nan), "found the value nan"),
        (-TWO, "found the values -1, 0"),
        (TWO.transpose(0, 2, 1), "width and height are swapped"),
        (np.ones((4, 6), bool), "the proportions agree"),
        (np.ones((4, 5), bool), "5 x 4 pixels but the image is 3 x 2"),
        (Region("r", np.ones((4, 5), bool)), "r is 5 x 4 pixels"),
        (Image.new("1", (5, 4), 1), "5 x 4 pixels"),
        (np.ones((1, 1, 2, 3)), "[M, 2, 3]"),
        (np.ones(3), "found the shape [3]"),
        (np.array([["a", "b", "c"]] * 2), "expected booleans or numbers"),
        ((0, 0, 3, 2), "box_region"),
        (7, "found int"),
        (None, "found NoneType"),
    ],
)
def test_what_is_no_mask_is_refused(masks: object, fragment: str) -> None:
    with pytest.raises(InputError) as caught:
        as_masks(masks, (3, 2))
    assert fragment in str(caught.value)
    assert "\n" not in str(caught.value)
