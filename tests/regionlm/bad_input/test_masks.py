"""Bad masks and boxes, through the command line."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Refused = Callable[..., str]


def _noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


_SOFT = np.tile(np.arange(0, 240, 6, dtype=np.uint8), (30, 1))
_SOFT[:, -8:] = 255
_TRIMAP = np.zeros((30, 40), np.uint8)
_TRIMAP[5:25, 5:25], _TRIMAP[10:20, 10:20] = 128, 255
_STRAY = np.zeros((30, 40), np.uint8)
_STRAY[5:25, 5:25], _STRAY[0, 0], _STRAY[29, 0] = 255, 3, 7

BAD_MASKS: dict[str, tuple[Image.Image | np.ndarray, str]] = {
    "empty": (np.zeros((30, 40), np.uint8), "mask m.png is empty"),
    "empty 1-bit": (np.zeros((30, 40), bool), "mask m.png is empty"),
    "empty palette": (Image.new("P", (40, 30), 0), "mask m.png is empty"),
    "fully transparent": (Image.new("RGBA", (40, 30), (9, 9, 9, 0)), "fully transparent"),
    "half transparent": (Image.new("RGBA", (40, 30), (9, 9, 9, 128)), "alpha 128"),
    "one grey": (np.full((30, 40), 128, np.uint8), "one value everywhere (the value 128)"),
    "photograph": (_noise(30, 40), "different values from 0 to 255"),
    "soft mask": (_SOFT, "33 different values from 0 to 255: threshold it"),
    "trimap": (_TRIMAP, "the values 0, 128, 255"),
    "stray pixels": (_STRAY, "more of 255 (400 pixels) than of all labels together (2)"),
    "colours": (_noise(30, 40, 3), "has 1200 colours"),
    "one colour": (Image.new("RGB", (40, 30), "red"), "has one colour"),
    "16-bit noise": (_noise(30, 40).astype(np.uint16) * 257, "different values from 0 to 65535"),
    "smaller": (np.full((15, 20), 255, np.uint8), "20 x 15 pixels but the image is 40 x 30"),
    "scaled": (np.full((60, 80), 255, np.uint8), "the proportions agree"),
    "turned": (np.full((40, 30), 255, np.uint8), "width and height are swapped"),
    "cropped": (np.full((30, 30), 255, np.uint8), "on this very image"),
}


@pytest.mark.parametrize("case", BAD_MASKS)
def test_bad_mask(case: str, image: Path, tmp_path: Path, refused: Refused) -> None:
    mask, fragment = BAD_MASKS[case]
    picture = mask if isinstance(mask, Image.Image) else Image.fromarray(mask)
    picture.save(tmp_path / "m.png")
    message = refused("caption", image, "--mask", "m.png", "--heatmap", "heat.png")
    assert fragment in message


def test_no_region(image: Path, refused: Refused) -> None:
    assert "add --mask M.png, --box X0,Y0,X1,Y1 or --points X,Y" in refused("caption", image)


@pytest.mark.parametrize(
    ("box", "fragment"),
    [
        ("-1,0,9,9", "reaches outside the image, which is 40 x 30 pixels"),
        ("0,0,41,30", "reaches outside"),
        ("0,0,40,30.5", "reaches outside"),
        ("50,50,60,60", "reaches outside"),
        ("9,9,3,3", "expected X0 < X1 and Y0 < Y1"),
        ("3,9,9,3", "expected X0 < X1 and Y0 < Y1"),
        ("3,3,3,9", "expected X0 < X1 and Y0 < Y1"),
        ("0.6,2,1.4,9", "covers no pixel's centre"),
        ("0.1,0.1,0.5,0.5", "looks like fractions"),
        ("nan,0,9,9", "not finite"),
        ("0,0,inf,9", "not finite"),
        ("0,0,9", "found 3 of them"),
        ("0,0,9,9,9", "found 5 of them"),
        ("the dog", "found 1 of them"),
        ("a,b,c,d", "expected four numbers"),
        ("0 0 9 9", "found 1 of them"),
        ("", "found 1 of them"),
    ],
)
def test_bad_box(box: str, fragment: str, image: Path, refused: Refused) -> None:
    assert fragment in refused("caption", image, "--box", box, "--heatmap", "heat.png")
