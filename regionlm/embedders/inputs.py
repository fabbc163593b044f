"""Checks of the masks given to an embedder; every error is an ``InputError`` in one line."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from regionlm.errors import InputError


def check_masks(masks: np.ndarray | Tensor, image: Image.Image | Tensor | None = None) -> Tensor:
    """bool ``[M, H, W]``, every mask with at least one pixel and of a PIL image's size; InputError
    otherwise."""
    if not isinstance(masks, (np.ndarray, Tensor)):
        kind = type(masks).__name__
        raise InputError(f"masks: expected an array or tensor [M, H, W], found {kind}")
    if isinstance(masks, np.ndarray) and masks.dtype.kind not in "biuf":
        raise InputError(f"masks: expected bool or 0/1 values, found dtype {masks.dtype}")
    found = torch.as_tensor(masks).detach()
    if found.ndim != 3 or 0 in found.shape:
        raise InputError(f"masks: expected [M, H, W] with M >= 1, found {list(found.shape)}")
    if isinstance(image, Image.Image) and found.shape[1:] != (image.height, image.width):
        raise InputError(
            f"masks: expected the image's size {image.height} x {image.width} (H x W), found"
            f" {found.shape[1]} x {found.shape[2]}"
        )
    if found.dtype != torch.bool:
        if not ((found == 0) | (found == 1)).all():
            raise InputError(f"masks: expected bool or 0/1 values, found others ({found.dtype})")
        found = found != 0
    # As bytes, because torch's any over a dimension of bools is many times as slow.
    fullest = found.contiguous().view(torch.uint8).flatten(1).amax(1)
    empty = (fullest == 0).nonzero().flatten().tolist()
    if empty:
        raise InputError(
            f"masks: mask {empty[0]} of {len(found)} (counted from 0) is empty; a region needs at"
            " least one pixel"
        )
    return found
