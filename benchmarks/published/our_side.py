"""regionlm at work on the same rows, through its public interface."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from regionlm.backbones import ClipViT
from regionlm.embedders.maskinversion import MaskInversion

from .cases import Row, image_array, mask_arrays
from .pooled_cases import POOLED, build_any, seeded_vectors
from .worker import main


class OurMaskInversion:
    """regionlm's backbone around the seeded model, and the picture as it preprocesses it."""

    def __init__(self, model: str, size: int, dtype: str) -> None:
        self.backbone = ClipViT(build_any(model, dtype))
        self.options: dict[str, Any] = {}
        if model in POOLED:  # as the authors explain SigLIP, corrected by a seeded text
            empty = torch.from_numpy(seeded_vectors(model, 1, seed=4)).to(self.backbone.dtype)
            self.backbone.embed_texts = lambda texts: empty  # type: ignore[method-assign]
            self.options = {"score": "published", "empty_text": 0.8}
        self.size = size
        self.pixels = self.backbone.preprocess(Image.fromarray(image_array()), size)

    def embedder(self, row: Row) -> MaskInversion:
        """MaskInversion with the row's settings, and the authors' mean over the masks."""
        embedder = MaskInversion(
            self.backbone,
            steps=row.steps,
            lr=row.lr,
            alpha=row.alpha,
            weight_decay=row.weight_decay,
            size=self.size,
            speed=row.speed,
            **self.options,
        )
        embedder.eps *= row.mean_over or row.masks
        return embedder

    def invert(self, row: Row) -> dict[str, np.ndarray]:
        """Embeddings and the maps that belong to them, at the masks' size."""
        result = self.embedder(row)(self.pixels, mask_arrays(row.masks))
        arrays = {
            "let": result.embeddings,
            "map": result.heatmaps(),
            "image_embedding": result.image_embedding,
        }
        return {name: value.numpy() for name, value in arrays.items()}

    def prepare_call(self, row: Row) -> Callable[[], Tensor]:
        """Our call on a ready image tensor and ready masks."""
        embedder, masks = self.embedder(row), mask_arrays(row.masks)
        return lambda: embedder(self.pixels, masks).embeddings


if __name__ == "__main__":
    main(OurMaskInversion)
