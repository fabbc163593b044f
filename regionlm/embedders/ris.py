"""`ris`: the model's own embedding, with patches outside the region faded out on the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from regionlm.backbones.clip_vit import ClipViT
from regionlm.embedders.coverage import mask_coverage
from regionlm.embedders.crop import MaskedCrop
from regionlm.embedders.embedder import AT_ONCE, Embedder
from regionlm.embedders.localized import RegionEmbeddings
from regionlm.embedders.options import RisOptions
from regionlm.embedders.pictures import as_picture


class Ris(Embedder[RegionEmbeddings]):
    """Zero-shot referring segmentation's region feature (Yu et al. 2023): ``v * global + (1 - v) *
    local``, both unnormalised.

    Global: before each of the last blocks every patch token is multiplied by the share of it that
    the mask covers ([CLS] is not), then the model pools as ever; a mean-pooled model averages with
    the same shares. Local: the masked crop (``MaskedCrop`` of extent ``"box"``).

    The published code samples the mask bilinearly where we take its coverage, normalises with
    ImageNet's colours, and always masks from block 9, the third last of its ViT-B. Options:
    ``RisOptions``.
    """

    options_type = RisOptions
    options: RisOptions

    def __init__(self, backbone: ClipViT, **options: Any) -> None:
        super().__init__(backbone, **options)
        blocks = min(self.options.masked_blocks, len(backbone.blocks()))
        self.options = replace(self.options, masked_blocks=blocks)
        self._local = MaskedCrop(backbone, extent="box", size=self.size)

    def _embed(
        self, images: Sequence[Image.Image | Tensor], masks: list[Tensor]
    ) -> Iterator[RegionEmbeddings]:
        v = self.options.v
        for positions, pixels in self._batches(images):
            tokens, grid = self.backbone.trunk(pixels, without=self.options.masked_blocks)
            for index, position in enumerate(positions):
                coverage = mask_coverage(masks[position], grid).to(tokens)
                everything = torch.ones_like(coverage[:1])  # masks nothing: the image embedding
                found = self._masked(tokens[index], torch.cat([everything, coverage]))
                regions = v * found[1:]
                if v < 1:
                    regions = regions + (1 - v) * self._crops(images[position], masks[position])
                yield RegionEmbeddings(regions, found[0])

    def _masked(self, tokens: Tensor, coverage: Tensor) -> Tensor:
        """Global features ``[M, d]`` of one image's ``tokens [N, D]`` under ``coverage [M, n]``."""
        blocks, head = self.backbone.blocks()[-self.options.masked_blocks :], self.backbone.head()
        found = []
        for shares in coverage.split(AT_ONCE):
            cls = torch.ones_like(shares[:, :1])
            factors = torch.cat([cls, shares], 1)[:, :, None]
            x = tokens.expand(len(shares), -1, -1)
            for block in blocks:
                x = block(x * factors)
            if head.pooling == "cls":
                pooled = x[:, 0]
            else:
                pooled = (x * factors)[:, 1:].sum(1) / shares.sum(1, keepdim=True)
            found.append(head.readout(pooled))
        return torch.cat(found)

    def _crops(self, image: Image.Image | Tensor, masks: Tensor) -> Tensor:
        pictures = self._local.pictures(as_picture(image), masks)
        return torch.stack(list(self._local.vectors(pictures)))
