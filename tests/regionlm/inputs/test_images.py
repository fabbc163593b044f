"""Opening images: what is accepted and what it becomes (refusals: `bad_input/`)."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from regionlm.errors import InputError, ModelWarning
from regionlm.inputs.images import MAX_PIXELS, as_image, open_image

_ORIENTATION = 0x0112


def _photo(height: int = 12, width: int = 20) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _opened(picture: Image.Image, path: Path, **options: object) -> np.ndarray:
    picture.save(path, **options)
    image = open_image(path)
    assert image.mode == "RGB"
    return np.asarray(image)


def test_rgb_is_read_unchanged(tmp_path: Path) -> None:
    assert (_opened(Image.fromarray(_photo()), tmp_path / "a.png") == _photo()).all()


def test_string_paths_and_spaces_work(tmp_path: Path) -> None:
    path = tmp_path / "a photo é.png"
    Image.fromarray(_photo()).save(path)
    assert open_image(str(path)).size == (20, 12)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_turns_the_pixels(tmp_path: Path, orientation: int) -> None:
    pixels, exif = _photo(), Image.Exif()
    exif[_ORIENTATION] = orientation
    # What each orientation asks a viewer to do to the stored pixels (TIFF 6.0, tag 274).
    upright = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.transpose(1, 0, 2),
        6: np.rot90(pixels, -1),
        7: np.rot90(pixels, 2).transpose(1, 0, 2),
        8: np.rot90(pixels),
    }
    found = _opened(Image.fromarray(pixels), tmp_path / "a.png", exif=exif)
    assert np.array_equal(found, upright[orientation])


def test_16_bit_greyscale_is_scaled_not_clipped(tmp_path: Path) -> None:
    values = np.array([[0, 257, 32768, 65535, 128, 129]], dtype=np.uint16)
    expected = [0, 1, 128, 255, 0, 1]
    for name in ("a.png", "a.tiff"):
        found = _opened(Image.fromarray(values), tmp_path / name)
        assert found[0].tolist() == [[v] * 3 for v in expected]


def test_cmyk_is_converted(tmp_path: Path) -> None:
    cyan = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    red, green, blue = _opened(cyan, tmp_path / "a.jpg", quality=95)[4, 4]
    assert red < 16 and green > 239 and blue > 239


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA-like"])
def test_transparency_is_laid_on_white(tmp_path: Path, mode: str) -> None:
    if mode == "PA-like":
        picture = Image.new("P", (4, 4), 0)
        picture.putpalette([0, 0, 0, 10, 20, 30])
        picture.putpixel((0, 0), 1)
        found = _opened(picture, tmp_path / "a.png", transparency=0)
        assert found[0, 0].tolist() == [10, 20, 30]
    else:
        found = _opened(Image.new(mode, (4, 4)), tmp_path / "a.png")
    assert found[3, 3].tolist() == [255, 255, 255]


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_grey_and_palette_keep_their_colours(tmp_path: Path, mode: str) -> None:
    picture = Image.fromarray(_photo()).convert(mode)
    expected = np.asarray(picture.convert("RGB"))
    assert np.array_equal(_opened(picture, tmp_path / "a.png"), expected)


def test_single_frame_gif_is_a_picture(tmp_path: Path) -> None:
    assert _opened(Image.new("RGB", (5, 4), "red"), tmp_path / "a.gif").shape == (4, 5, 3)


def test_a_phones_second_picture_is_ignored(tmp_path: Path) -> None:
    photo, depth = Image.new("RGB", (40, 30), "red"), Image.new("RGB", (10, 8), "blue")
    found = _opened(photo, tmp_path / "a.mpo", save_all=True, append_images=[depth])
    assert found.shape == (30, 40, 3)
    assert found[15, 20, 0] > 200


def test_no_warning_reaches_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(_photo()).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)  # Pillow now warns of this picture's size
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_image(tmp_path / "a.png").size == (20, 12)


def test_as_image_takes_paths_pictures_and_arrays(tmp_path: Path) -> None:
    pixels = _photo()
    Image.fromarray(pixels).save(tmp_path / "a.png")
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(pixels), pixels):
        assert np.array_equal(np.asarray(as_image(source)), pixels)
    grey = np.asarray(as_image(pixels[..., 0]))
    assert np.array_equal(grey, pixels[..., :1].repeat(3, axis=2))
    opaque = np.dstack([pixels, np.full((12, 20), 255, np.uint8)])
    assert np.array_equal(np.asarray(as_image(opaque)), pixels)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64, torch.float16])
def test_as_image_takes_tensors(dtype: torch.dtype) -> None:
    every = np.arange(768).reshape(16, 16, 3).astype(np.uint8)  # every value a pixel can have
    values = torch.from_numpy(every).permute(2, 0, 1)
    tensor = values if dtype == torch.uint8 else (values.double() / 255).to(dtype)
    assert np.array_equal(np.asarray(as_image(tensor)), every)
    assert np.array_equal(
        np.asarray(as_image(tensor.clone().requires_grad_(dtype.is_floating_point))), every
    )
    for grey in (tensor[0], tensor[:1]):
        assert np.array_equal(np.asarray(as_image(grey)), every[..., :1].repeat(3, axis=2))


def test_as_image_takes_a_picture_as_it_stands() -> None:
    picture = Image.fromarray(_photo())
    picture.getexif()[_ORIENTATION] = 6
    assert as_image(picture).size == picture.size


@pytest.mark.parametrize(
    ("image", "fragment"),
    [
        (np.zeros((4, 4, 3)), "uint8 array"),
        (np.zeros((3, 5, 6), np.uint8), "[3, 5, 6]"),
        (np.zeros((0, 4, 3), np.uint8), "at least one pixel"),
        (torch.zeros(3, 4, 4, dtype=torch.int64), "found int64 [3, 4, 4]"),
        (torch.zeros(2, 3, 4, 4), "found [2, 3, 4, 4]"),
        (torch.zeros(5, 4, 3), "found [5, 4, 3]: permute(2, 0, 1)"),
        (torch.zeros(4), "found [4]"),
        (torch.zeros(3, 0, 4), "at least one pixel"),
        (torch.full((3, 4, 4), 200.0), "found 200 to 200"),
        (torch.full((3, 4, 4), -0.5), "from 0 to 1; found -0.5"),
        (torch.full((3, 4, 4), float("nan")), "found nan"),
        (7, "found int"),
        (Image.new("F", (4, 4)), "floating-point"),
        (Image.fromarray(np.full((4, 4), 70000, np.int32)), "expected 0..65535"),
    ],
)
def test_as_image_refuses_what_has_no_clear_meaning(image: object, fragment: str) -> None:
    with pytest.raises(InputError) as caught:
        as_image(image)
    assert fragment in str(caught.value)
    assert "\n" not in str(caught.value)


def test_size_limit_lies_below_pillows_own() -> None:
    assert Image.MAX_IMAGE_PIXELS is not None
    assert 170_000_000 < MAX_PIXELS < 2 * Image.MAX_IMAGE_PIXELS


@settings(max_examples=40)
@given(data=st.binary(min_size=1, max_size=200), start=st.sampled_from([b"", b"\x89PNG\r\n\x1a\n"]))
def test_random_bytes_never_escape_as_another_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, start: bytes
) -> None:
    path = tmp_path_factory.mktemp("bytes") / "a.png"
    path.write_bytes(start + data)
    with pytest.raises(InputError) as caught:
        open_image(path)
    assert "\n" not in str(caught.value)


@settings(max_examples=40)
@given(keep=st.floats(0.05, 0.95), kind=st.sampled_from(["PNG", "JPEG", "WEBP", "BMP", "TIFF"]))
def test_truncated_files_are_refused(
    tmp_path_factory: pytest.TempPathFactory, keep: float, kind: str
) -> None:
    path = tmp_path_factory.mktemp("cut") / "a.bin"
    Image.fromarray(_photo(40, 40)).save(path, format=kind)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole))])
    with pytest.raises(InputError):
        open_image(path)


def test_eight_bits_in_sixteen_are_doubted() -> None:
    samples = np.array([[0, 255]], dtype=np.uint16)
    with pytest.warns(ModelWarning, match="none exceeds 255, so it is nearly black"):
        as_image(Image.fromarray(samples))
