"""MaskInversion by plain automatic differentiation, in our environment: the paper's "vanilla" way.

The image goes through the trunk once per mask; every step differentiates the score by the last
block's attention and the loss through that gradient. Nothing that the published package does beyond
that is here: the trunk keeps no graph, the last block's graph is built once, and only the tokens
get a gradient. So a factored engine that beats this one does not owe it to a sloppy opponent.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from regionlm.backbones import ClipViT

from .cases import Row, build_model, image_array, mask_arrays
from .worker import main


class AutogradMaskInversion:
    """The seeded model with frozen weights, and the picture as regionlm preprocesses it."""

    def __init__(self, model: str, size: int, dtype: str) -> None:
        self.backbone = ClipViT(build_model(model, dtype).requires_grad_(False))
        self.pixels = self.backbone.preprocess(Image.fromarray(image_array()), size)

    def invert(self, row: Row) -> dict[str, np.ndarray]:
        """Embeddings and the maps that belong to them, at the masks' size."""
        problem = _Problem(self.backbone, self.pixels, self._masks(row))
        lets = problem.descend(row)
        maps = problem.maps(lets).detach()
        arrays = {"let": lets.detach(), "map": maps, "image_embedding": problem.start[0]}
        return {name: value.numpy() for name, value in arrays.items()}

    def prepare_call(self, row: Row) -> Callable[[], Tensor]:
        """The whole computation on a ready image tensor and ready masks."""
        masks = self._masks(row)
        return lambda: _Problem(self.backbone, self.pixels, masks).descend(row)

    def _masks(self, row: Row) -> Tensor:
        return torch.from_numpy(mask_arrays(row.masks)).to(self.backbone.dtype)


class _Problem:
    """One image, M masks: the last block's graph, from its attention to the pooled output."""

    def __init__(self, backbone: ClipViT, pixels: Tensor, masks: Tensor) -> None:
        self.masks, self.patch = masks, backbone.patch_size
        with torch.no_grad():
            x, self.grid = backbone.trunk(pixels.expand(len(masks), -1, -1, -1))
            self.head = backbone.head().at(self.grid)
            block = self.head.block
            self.start = self.head.embed(x)
            queries, keys, values = block.qkv(x)
            logits = queries @ keys.transpose(-1, -2) * queries.shape[-1] ** -0.5
        self.attention = logits.softmax(-1).requires_grad_()
        out = block.after_mlp(x + block.attention_output(self.attention @ values))
        pooled = out[:, self.head.score_tokens].mean(1)
        self.readout = F.normalize(self.head.readout(pooled), dim=1)

    def maps(self, tokens: Tensor) -> Tensor:
        """Maps ``[M, H, W]`` in [0, 1] at the masks' size, differentiable in ``tokens [M, d]``."""
        score = (F.normalize(tokens, dim=1) * self.readout).sum()
        (slopes,) = torch.autograd.grad(score, self.attention, create_graph=True)
        raw = slopes.clamp(min=0).mean((1, 2))[:, 1:].reshape(-1, 1, *self.grid)
        wide = F.interpolate(raw, scale_factor=self.patch, mode="bilinear")
        low, high = wide.amin((2, 3), keepdim=True), wide.amax((2, 3), keepdim=True)
        unit = (wide - low) / (high - low)
        return F.interpolate(unit, size=self.masks.shape[1:], mode="bilinear")[:, 0]

    def descend(self, row: Row) -> Tensor:
        """Embeddings ``[M, d]`` after the row's steps."""
        lets, wanted = self.start.clone().requires_grad_(), self.masks.flatten(1)
        optimizer = torch.optim.AdamW([lets], lr=row.lr, weight_decay=row.weight_decay)
        for _ in range(row.steps):
            maps = self.maps(lets).flatten(1)
            dice = (2 * (maps * wanted).sum(1) + 1) / (maps.sum(1) + wanted.sum(1) + 1)
            loss = 1 - dice + row.alpha * (1 - F.cosine_similarity(lets, self.start))
            (lets.grad,) = torch.autograd.grad(loss.mean(), lets, retain_graph=True)
            optimizer.step()
        return lets


if __name__ == "__main__":
    main(AutogradMaskInversion)
