"""Files that are no pictures, given as image or mask, through the command line."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

_ORIENTATION = 0x0112
Refused = Callable[..., str]


def _png_header(width: int, height: int) -> bytes:
    """A PNG of which only the header and the first bytes of the pixels exist."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _png_chunk(b"IHDR" + header) + _png_chunk(b"IDAT" + bytes(9))


def _png_chunk(body: bytes) -> bytes:
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))


def _save_animation(path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def _grey(path: Path, values: np.ndarray, **options: object) -> None:
    Image.fromarray(values).save(path, **options)


def _noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


BAD_IMAGES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "missing": ("a.png", lambda path: None, "does not exist"),
    "folder": ("a.png", Path.mkdir, "is a folder"),
    "empty": ("a.png", Path.touch, "is empty (0 bytes)"),
    "text": (
        "a.png",
        lambda p: p.write_text("not an image, only text"),
        "can't be read as an image",
    ),
    "truncated PNG": (
        "a.png",
        lambda p: (_grey(p, _noise(30, 40)), p.write_bytes(p.read_bytes()[:600])),
        "damaged or incomplete",
    ),
    "truncated JPEG": (
        "a.jpg",
        lambda p: (_grey(p, _noise(30, 40)), p.write_bytes(p.read_bytes()[:-300])),
        "damaged or incomplete",
    ),
    "animated GIF": ("a.gif", _save_animation, "holds 3 frames"),
    "animated WebP": ("a.webp", _save_animation, "holds 3 frames"),
    "animated PNG": ("a.png", _save_animation, "holds 3 frames"),
    "TIFF of pages": ("a.tiff", _save_animation, "holds 3 frames"),
    "gigapixel": ("a.png", lambda p: p.write_bytes(_png_header(40_000, 30_000)), "is too large"),
    "just too large": (
        "a.png",
        lambda p: p.write_bytes(_png_header(17_850, 10_000)),
        "found 17850 x 10000",
    ),
    "floating point": ("a.tiff", lambda p: _grey(p, np.zeros((4, 4), np.float32)), "range"),
    "32 bits": ("a.tiff", lambda p: _grey(p, np.full((4, 4), 70_000, np.int32)), "0..65535"),
}


@pytest.mark.parametrize("case", BAD_IMAGES)
def test_bad_image(case: str, tmp_path: Path, refused: Refused) -> None:
    name, make, fragment = BAD_IMAGES[case]
    make(tmp_path / name)
    message = refused("caption", name, "--box", "0,0,2,2", "--heatmap", "heat.png")
    assert fragment in message
    assert f"image {name}" in message


def test_unreadable_image(image: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(*args: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")  # file modes don't bind root

    monkeypatch.setattr(Image, "open", deny)
    assert "permission denied" in refused("caption", image, "--box", "0,0,2,2")


def test_address_for_an_image(refused: Refused) -> None:
    message = refused("caption", "https://example.org/a.png", "--box", "0,0,2,2")
    assert "download the file" in message


def test_name_that_is_no_path(refused: Refused) -> None:
    # Which of the two is said depends on the version of Python.
    for name in ("x" * 5000, "a\0.png"):
        message = refused("caption", name, "--box", "0,0,2,2")
        assert "cannot be read" in message or "does not exist" in message


def test_mask_is_checked_against_the_upright_image(tmp_path: Path, refused: Refused) -> None:
    exif = Image.Exif()
    exif[_ORIENTATION] = 6  # stored 40 x 30, shown 30 x 40
    _grey(tmp_path / "photo.jpg", _noise(30, 40), exif=exif)
    _grey(tmp_path / "m.png", np.full((30, 40), 255, np.uint8))
    message = refused("caption", "photo.jpg", "--mask", "m.png")
    assert "mask m.png is 40 x 30 pixels but the image is 30 x 40" in message
    assert "EXIF" in message
    assert "30 x 40 pixels" in refused("caption", "photo.jpg", "--box", "0,0,40,30")


@pytest.mark.parametrize("case", ["missing", "empty", "text", "truncated PNG", "animated PNG"])
def test_bad_mask_files(case: str, image: Path, tmp_path: Path, refused: Refused) -> None:
    _, make, fragment = BAD_IMAGES[case]
    make(tmp_path / "m.png")
    message = refused("caption", image, "--mask", "m.png")
    assert fragment in message
    assert "mask m.png" in message
