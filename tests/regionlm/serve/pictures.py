"""Pictures to send in requests."""

import base64
import io

import numpy as np
from PIL import Image


def picture(seed=0, size=(40, 30)):
    """A PIL image of noise; size is (W, H)."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def png(image):
    """The bytes of a PNG file."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def encoded(image):
    """A picture as requests carry it: base64 of a PNG."""
    return base64.b64encode(png(image)).decode()
