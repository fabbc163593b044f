"""Messages with images, as OpenAI's clients send them."""

import base64

import numpy as np
from PIL import Image

from tests.regionlm.serve.pictures import png


def part(image):
    """An image in a message."""
    url = "data:image/png;base64," + base64.b64encode(png(image)).decode()
    return {"type": "image_url", "image_url": {"url": url}}


def asking(*images, text="What is it?"):
    """One turn of the user."""
    content = [*map(part, images), {"type": "text", "text": text}]
    return [{"role": "user", "content": content}]


def box_mask(image, box):
    """bool [H, W] of an image: x0, y0, x1, y1."""
    mask = np.zeros(image.size[::-1], dtype=bool)
    mask[box[1] : box[3], box[0] : box[2]] = True
    return mask


def cut_out(image, mask):
    """The image with a mask as its transparency; the colours stay."""
    alpha = Image.fromarray(mask.astype(np.uint8) * 255)
    return Image.merge("RGBA", (*image.split(), alpha))


def grey(mask):
    """A mask as a black and white picture."""
    return Image.fromarray(mask.astype(np.uint8) * 255)


LEFT, RIGHT = (0, 0, 15, 30), (25, 5, 40, 25)
