"""Pictograms of the mini world, fetched from packages of the npm registry.

Noto artwork (Google, Apache-2.0), Fluent 3D (Microsoft, MIT) and Twemoji (CC-BY 4.0); see
LICENSES.md beside this file. The first two are training styles, Twemoji is held out.
"""

import base64
import hashlib
import io
import os
import tarfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from training.world.names import TINTS, pictograms

LARGEST = 112  # pixels; scenes rarely draw a sprite larger, so none is cached larger


@dataclass(frozen=True)
class Style:
    """One drawing style: an npm package at a fixed version, checked by its sha512."""

    name: str
    package: str
    version: str
    sha512: str  # base64, as the registry's `integrity` field gives it
    picture: str  # path of one pictogram inside the package, with {code}

    @property
    def url(self) -> str:
        """Address of the package's archive."""
        file = self.package.rsplit("/", 1)[-1]
        return f"https://registry.npmjs.org/{self.package}/-/{file}-{self.version}.tgz"


NOTO = Style(
    "noto",
    "emoji-datasource-google",
    "16.0.0",
    "ZRexfzs7MVoLnmzZmNsO4TKhnAJp5D++Vm6PpUpH/jEQQlemp3l88CjZ+DoZ2faM9R4QxZkOPJCoT8DlPhfQ3A==",
    "package/img/google/64/{code}.png",
)
FLUENT = Style(
    "fluent",
    "@lobehub/fluent-emoji-3d",
    "1.1.0",
    "Wlq2lVStTnr8BDpIJ0pEnTKO4LuDxxqTEhTvRtD1DLRF0me7ogeRQjKoehDHXuVJ2Qaecgl5wRBv60lUAG3h7g==",
    "package/assets/{code}.webp",
)
TWEMOJI = Style(
    "twemoji",
    "emoji-datasource-twitter",
    "16.0.0",
    "7F+uCuHH+7Qnrc15P5tnbvKkg9E6tlzi4MnT2uW1RlN4pLYTza6cP/dstIfSDMtpjFLWuZewWg8jBbuL2eyELQ==",
    "package/img/twitter/64/{code}.png",
)
STYLES = {style.name: style for style in (NOTO, FLUENT, TWEMOJI)}
TRAINING_STYLES = ("noto", "fluent")
HELD_OUT_STYLES = ("twemoji",)


def cache_folder() -> Path:
    """The folder of fetched pictograms, in $REGIONLM_CACHE or ~/.cache/regionlm."""
    return Path(os.environ.get("REGIONLM_CACHE", Path.home() / ".cache" / "regionlm")) / "sprites"


def _codes(char: str) -> tuple[str, str]:
    code = "-".join(f"{ord(c):04x}" for c in char)
    return code, f"{code}-fe0f"  # the packages disagree on the emoji-presentation suffix


def fetch(style: Style) -> Path:
    """Download and check the package of a style, and return the folder of its pictograms.

    Raises:
        ValueError: the archive's sha512 is not the expected one.
        FileNotFoundError: the package lacks a pictogram of names.yaml.
    """
    folder = cache_folder() / f"{style.name}-{style.version}"
    missing = [name for name in pictograms() if not (folder / f"{name}.png").exists()]
    if not missing:
        return folder
    with urllib.request.urlopen(style.url, timeout=120) as response:
        archive = response.read()
    digest = base64.b64encode(hashlib.sha512(archive).digest()).decode()
    if digest != style.sha512:
        raise ValueError(f"{style.url}: expected sha512 {style.sha512}, found {digest}")
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        members = set(tar.getnames())
        for name in missing:
            paths = [style.picture.format(code=code) for code in _codes(pictograms()[name])]
            found = next((path for path in paths if path in members), None)
            if found is None:
                raise FileNotFoundError(f"{style.package} {style.version} has no picture of {name}")
            with Image.open(tar.extractfile(found)) as picture:  # type: ignore[arg-type]
                _trim(picture.convert("RGBA")).save(folder / f"{name}.png")
    return folder


def _trim(picture: Image.Image) -> Image.Image:
    """Cut transparent margins and bound the longer side, so that sizes are comparable."""
    box = picture.getchannel("A").point(lambda a: 255 * (a > 25)).getbbox()
    picture = picture.crop(box)
    scale = min(1.0, LARGEST / max(picture.size))
    width, height = (max(1, round(side * scale)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


class SpriteBook:
    """All pictograms of some styles in memory; recoloured ones are made when needed.

    Args:
        styles: names out of `STYLES`.
    """

    def __init__(self, styles: tuple[str, ...] = TRAINING_STYLES) -> None:
        self.styles = styles
        self._pictures: dict[tuple[str, str], Image.Image] = {}
        self._prepared: dict[tuple[str, str, str | None, bool], tuple[Image.Image, ...]] = {}
        for style in styles:
            folder = fetch(STYLES[style])
            for name in pictograms():
                with Image.open(folder / f"{name}.png") as picture:
                    self._pictures[name, style] = picture.convert("RGBA")

    def draw(
        self, name: str, style: str, *, side: float, angle: float, mirror: bool, tint: str | None
    ) -> Image.Image:
        """A pictogram in RGBA, its longer side `side` pixels before it turns by `angle` degrees."""
        full, half = self._prepare(name, style, tint, mirror)
        picture = half if side <= max(half.size) else full
        scale = side / max(picture.size)
        width, height = (max(2, round(edge * scale)) for edge in picture.size)
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
        return picture.rotate(angle, Image.Resampling.BILINEAR, expand=True).convert("RGBA")

    def _prepare(
        self, name: str, style: str, tint: str | None, mirror: bool
    ) -> tuple[Image.Image, ...]:
        """A pictogram recoloured, mirrored and premultiplied, at full and half size, for `draw`."""
        key = (name, style, tint, mirror)
        if key not in self._prepared:
            picture = self._pictures[name, style]
            if tint is not None:
                picture = _tinted(picture, TINTS[tint])
            if mirror:
                picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            half = picture.resize((picture.width // 2 + 1, picture.height // 2 + 1))
            self._prepared[key] = (picture.convert("RGBa"), half.convert("RGBa"))
        return self._prepared[key]


def _tinted(picture: Image.Image, tint: tuple[int, int, int]) -> Image.Image:
    """Recolour a pictogram: its luminance shades the tint; some of its own colour remains."""
    pixels = np.asarray(picture, dtype=np.float32)
    shade = pixels[..., :3] @ np.array([0.299, 0.587, 0.114], np.float32) / 255
    colour = np.array(tint, np.float32) * (0.35 + 0.9 * shade[..., None])
    mixed = np.clip(0.85 * colour + 0.15 * pixels[..., :3], 0, 255)
    return Image.fromarray(np.dstack([mixed, pixels[..., 3]]).astype(np.uint8), "RGBA")
