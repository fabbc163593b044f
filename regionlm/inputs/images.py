"""Open a user's image: any usual file becomes an upright 8-bit RGB image."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from regionlm.errors import InputError, ModelWarning

if TYPE_CHECKING:
    from torch import Tensor

#: The most pixels an image or mask may have. Pillow refuses files of twice its own warning limit,
#: 178.9 million pixels; ours lies just below, so it holds whatever Pillow is set to.
MAX_PIXELS = 178_000_000

_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N")
# Phones write a depth or brightness map as a second picture of a JPEG: the first one is the photo.
_ONE_PICTURE_FORMATS = ("MPO",)
_USUAL_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")


def open_image(path: str | Path) -> Image.Image:
    """Read an image file as RGB, 8 bits a channel, turned upright by its EXIF orientation.

    - Greyscale, palette and CMYK are converted; transparency is laid on white.
    - 16-bit greyscale maps its full range, 0..65535, to 0..255 (value / 257, rounded).
    - Of a phone's multi-picture JPEG the main photo is taken. An animation, or a TIFF of several
      pages, is refused: it is unknown which frame is meant.

    Raises InputError: no such file, a folder, unreadable, empty, damaged, not an image, several
    frames, floating-point samples, more than MAX_PIXELS pixels.
    """
    return _to_rgb(decode_file(path, "image"), f"image {path}")


def open_image_bytes(data: bytes, name: str, most: int = MAX_PIXELS) -> Image.Image:
    """Read the bytes of an image file as `open_image` does, whoever made them.

    Only the usual formats are read (for some others, Pillow starts programs). name: how messages
    call it. most: pixels that it may have; one with more is not decoded.
    """
    return _to_rgb(open_picture_bytes(data, name, most), name)


def open_picture_bytes(data: bytes, name: str, most: int = MAX_PIXELS) -> Image.Image:
    """As `open_image_bytes`, in the picture's own mode."""
    return _decode(io.BytesIO(data), name, "the file", most, _USUAL_FORMATS)


def as_image(image: Image.Image | np.ndarray | Tensor | str | Path) -> Image.Image:
    """Turn any image that a Python caller may have into an RGB image.

    image: a path (see open_image); a PIL image, whose pixels are taken as they are, so that its
    size and the caller's masks agree (apply `ImageOps.exif_transpose` first if the file was a
    photo); an array uint8 [H, W], [H, W, 3] (RGB) or [H, W, 4] (RGBA), values 0..255; or a torch
    tensor [3, H, W] (RGB), [1, H, W] or [H, W], of any device, uint8 0..255 or floats 0..1.

    Raises InputError for any other type, shape or dtype.
    """
    if isinstance(image, str | Path):
        return open_image(image)
    if isinstance(image, Image.Image):
        _check_pixels(image.size, "image")
        return _to_rgb(image, "image")
    if hasattr(image, "detach"):  # torch need not be imported to know
        return Image.fromarray(_tensor_values(image)).convert("RGB")
    if not isinstance(image, np.ndarray):
        found = type(image).__name__
        raise InputError(
            f"image: expected a path, a PIL image, a numpy array or a torch tensor; found {found}"
        )
    if image.dtype != np.uint8 or not (
        image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (3, 4))
    ):
        raise InputError(
            "image: expected a uint8 array [H, W, 3] with values 0..255; found "
            f"{image.dtype} {list(image.shape)}: convert it, e.g. (255 * x).round().astype('uint8')"
        )
    if 0 in image.shape:
        raise InputError(f"image: expected at least one pixel; found {list(image.shape)}")
    _check_pixels((image.shape[1], image.shape[0]), "image")
    return _to_rgb(Image.fromarray(image), "image")


def _tensor_values(image: Tensor) -> np.ndarray:
    """uint8 [H, W, 3] or [H, W] of a tensor, as `torchvision.transforms.ToTensor` makes them."""
    kind, shape = str(image.dtype).removeprefix("torch."), list(image.shape)
    if kind != "uint8" and not image.is_floating_point():
        raise InputError(
            f"image: expected a tensor of uint8 (0..255) or of floats (0..1); found {kind} {shape}"
        )
    if image.ndim not in (2, 3) or (image.ndim == 3 and shape[0] not in (1, 3)):
        raise InputError(
            f"image: expected a tensor [3, H, W], [1, H, W] or [H, W]; found {shape}"
            + (": permute(2, 0, 1) puts colours first" if shape[2:] in ([3], [4]) else "")
        )
    if 0 in shape:
        raise InputError(f"image: expected at least one pixel; found {shape}")
    _check_pixels((shape[-1], shape[-2]), "image")
    values = image.detach().cpu()
    if kind != "uint8":
        values = values.float()
        low, high = float(values.min()), float(values.max())
        if not 0 <= low <= high <= 1:  # also false for NaN
            raise InputError(
                f"image: expected a tensor of floats from 0 to 1; found {low:.3g} to {high:.3g}:"
                " undo the normalisation, or divide by 255"
            )
        values = (255 * values).round()
    array = values.numpy().astype(np.uint8)
    if array.ndim == 3:
        array = array[0] if len(array) == 1 else array.transpose(1, 2, 0)
    return np.ascontiguousarray(array)


def decode_file(path: str | Path, what: str) -> Image.Image:
    """Read one still image in its own mode, turned upright by its EXIF orientation.

    what: "image" or "mask", the word used in messages. Raises InputError as `open_image` does.
    """
    name = f"{what} {path}"
    _check_file(path, name)
    return _decode(path, name, path)


def _decode(
    file: str | Path | BinaryIO,
    name: str,
    path: str | Path,
    most: int = MAX_PIXELS,
    formats: tuple[str, ...] | None = None,
) -> Image.Image:
    with warnings.catch_warnings():
        # Pillow warns of odd metadata and of large sizes; the one that matters is an error below.
        warnings.simplefilter("ignore")
        try:
            with Image.open(file, formats=formats) as picture:
                _check_pixels(picture.size, name, most)
                _check_still(picture, path, name)
                picture.load()
                return _upright(picture)
        except InputError:
            raise
        except Exception as error:  # Pillow's decoders raise a dozen types on damaged files
            raise InputError(f"{name} {_decoding_problem(error, most)}") from error


def _decoding_problem(error: Exception, most: int) -> str:
    """What is wrong with a picture that Pillow can't decode, in words that follow its name."""
    if isinstance(error, Image.DecompressionBombError):
        return _too_large("more", most)
    if isinstance(error, PermissionError):
        return "cannot be read: permission denied"
    if isinstance(error, UnidentifiedImageError):
        return "can't be read as an image: expected PNG, JPEG, WebP, TIFF, BMP or GIF"
    reason = " ".join(str(error).split()) or type(error).__name__
    return f"is damaged or incomplete ({reason}): fetch or export it again"


def _check_file(path: str | Path, name: str) -> None:
    try:
        problem = _file_problem(path)
    except (OSError, ValueError) as error:  # a path too long, with a null byte, in a closed folder
        problem = f"cannot be read: {error}"
    if problem:
        raise InputError(f"{name} {problem}")


def _file_problem(path: str | Path) -> str | None:
    """Why a path can't be a picture's, in words that follow its name; None if it can."""
    file = Path(path)
    if "://" in str(path):
        return "is an address: download the file and give its path"
    if file.is_dir():
        return "is a folder: give the path of one image"
    if not file.exists():
        return "does not exist: check the path"
    if not file.is_file():
        return "is not a regular file: save the image to a file first"
    if file.stat().st_size == 0:
        return "is empty (0 bytes): fetch or export it again"
    return None


def _check_pixels(size: tuple[int, int], name: str, most: int = MAX_PIXELS) -> None:
    if size[0] * size[1] > most:
        raise InputError(f"{name} {_too_large(f'{size[0]} x {size[1]}', most)}")


def _too_large(found: str, most: int = MAX_PIXELS) -> str:
    return (
        f"is too large: expected at most {most / 1_000_000:g} million pixels, found {found}:"
        " scale it down or cut out a part"
    )


def _check_still(picture: Image.Image, path: str | Path, name: str) -> None:
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format not in _ONE_PICTURE_FORMATS:
        raise InputError(
            f"{name} holds {frames} frames, expected one still image: save one of them "
            f"first, e.g. with ImageMagick: magick '{path}[0]' frame.png"
        )


def _upright(picture: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # unreadable EXIF says nothing about orientation: the pixels are good
        return picture.copy()


def _to_rgb(picture: Image.Image, name: str) -> Image.Image:
    if picture.mode == "RGB":
        return picture
    if picture.mode in _SIXTEEN_BIT or picture.mode == "I":
        return Image.fromarray(_to_8_bit(np.asarray(picture), name)).convert("RGB")
    if picture.mode == "F":
        raise InputError(
            f"{name} has floating-point samples, whose range is unknown: save it with 8 or 16 bits"
        )
    try:
        if picture.has_transparency_data:
            rgba = picture.convert("RGBA")
            white = Image.new("RGBA", rgba.size, "white")
            return Image.alpha_composite(white, rgba).convert("RGB")
        return picture.convert("RGB")
    except ValueError as error:
        raise InputError(
            f"{name} is stored as {picture.mode}, which cannot be converted: save it as RGB"
        ) from error


def _to_8_bit(samples: np.ndarray, name: str) -> np.ndarray:
    low, high = int(samples.min()), int(samples.max())
    if low < 0 or high > 65535:
        raise InputError(
            f"{name} has integer samples from {low} to {high}, expected 0..65535: "
            "save it with 8 or 16 bits"
        )
    if 0 < high <= 255:
        warnings.warn(
            f"{name} has 16-bit samples of which none exceeds {high}, so it is nearly black; if 255"
            " means white, save it with 8 bits",
            ModelWarning,
            stacklevel=4,
        )
    return ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)
