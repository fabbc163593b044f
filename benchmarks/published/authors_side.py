"""The authors' packages at work. Runs inside the environment that ``environment.py`` makes.

Only their public interface is called: the wrapper class, its image and mask preprocessing,
``compute_maskinversion`` and ``compute_legrad``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from maskinversion import (
    MaskInversion,
    MaskInversionImagePreprocess,
    MaskInversionMaskPreprocess,
)
from open_clip.transform import image_transform
from PIL import Image
from torch.nn import functional as F

from .cases import Row, image_array, mask_arrays
from .pooled_cases import POOLED, build_any, seeded_vectors
from .worker import main


class PublishedMaskInversion:
    """Their wrapper around the seeded model, and the picture as their preprocessing gives it.

    A new one is needed for each input size: theirs overwrites the model's positional embedding
    with one for the first size it meets, and cannot use another after that.
    """

    def __init__(self, model: str, size: int, dtype: str) -> None:
        clip = build_any(model, dtype)
        self.wrapper = MaskInversion(clip)
        if model in POOLED:  # SigLIP is corrected by the map of a text, here a seeded one
            empty = torch.from_numpy(seeded_vectors(model, 1, seed=4))
            self.wrapper.empty_embedding = empty.T.to(getattr(torch, dtype))
        clip.to(getattr(torch, dtype))  # the wrapper has turned it into float32
        preprocess = MaskInversionImagePreprocess(image_transform(224, is_train=False), size)
        pixels = preprocess(Image.fromarray(image_array())).unsqueeze(0)
        self.pixels = pixels.to(getattr(torch, dtype))

    def masks(self, count: int) -> torch.Tensor:
        """Masks go in as 8-bit pictures of 0 and 255, as in their examples."""
        to_tensor = MaskInversionMaskPreprocess()
        pictures = (mask_arrays(count) * 255).astype(np.uint8)
        return torch.stack([to_tensor(Image.fromarray(picture)) for picture in pictures])

    def arguments(self, row: Row, masks: torch.Tensor) -> dict[str, Any]:
        """A row's options under their names."""
        return {
            "image": self.pixels,
            "masks_target": masks,
            "alpha": row.alpha,
            "lr": row.lr,
            "iterations": row.steps,
            "wd": row.weight_decay,
        }

    def invert(self, row: Row) -> dict[str, np.ndarray]:
        """Their embeddings, and two maps at the masks' size.

        The map they return belongs to the embedding *before* the last step, kept here as
        ``map_before_last_step``. ``map`` is what their own relevance function gives for the
        embedding they return: the map after all steps, which ours returns.
        """
        masks = self.masks(row.masks)
        arguments = self.arguments(row, masks)
        embedding, before = self.wrapper.compute_maskinversion(**arguments, return_expl_map=True)
        final = self.wrapper.compute_legrad(F.normalize(embedding, dim=-1))
        final = F.interpolate(final, size=masks.shape[-2:], mode="bilinear")
        with torch.no_grad():
            image_embedding = self.wrapper.encode_image(self.pixels)[0]
        arrays = {
            "let": embedding,
            "map": final[0],
            "map_before_last_step": before[0],
            "image_embedding": image_embedding,
        }
        return {name: value.detach().numpy() for name, value in arrays.items()}

    def prepare_call(self, row: Row) -> Callable[[], torch.Tensor]:
        """Their call on a ready image tensor and ready masks."""
        arguments = self.arguments(row, self.masks(row.masks))
        return lambda: self.wrapper.compute_maskinversion(**arguments)


if __name__ == "__main__":
    main(PublishedMaskInversion)
