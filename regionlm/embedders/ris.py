"""`ris`: the model's own embedding, with patches outside the region faded out on the way."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from regionlm.backbones.clip_vit import ClipViT
from regionlm.backbones.vision import Head
from regionlm.embedders.coverage import mask_coverage
from regionlm.embedders.crop import MaskedCrop
from regionlm.embedders.embedder import AT_ONCE, EmbedderImage, OneByOneEmbedder
from regionlm.embedders.localized import RegionEmbeddings
from regionlm.embedders.options import RisOptions
from regionlm.embedders.pictures import as_picture


@dataclass(frozen=True)
class TrunkTokens:
    """``tokens [N, D]`` of one image before the masked blocks, and the patch grid (gh, gw)."""

    tokens: Tensor
    grid: tuple[int, int]


class Ris(OneByOneEmbedder[RegionEmbeddings, TrunkTokens]):
    """Zero-shot referring segmentation's region feature (Yu et al. 2023): ``v * global + (1 - v) *
    local``, both unnormalised.

    Global: before each of the last blocks every patch token is multiplied by the share of it that
    the mask covers (other tokens are not), then the model pools as usual; a mean-pooled model
    averages with the same shares, and an attention pool counts as one more block. Local: the masked
    crop (``MaskedCrop`` of extent ``"box"``).

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
        self._local = MaskedCrop(backbone, extent="box", size=self.size, resize=self.resize)

    def _encode(self, pixels: Tensor) -> list[TrunkTokens]:
        tokens, grid = self.backbone.trunk(
            pixels, without=self.options.masked_blocks + (self.backbone.pooling == "attention")
        )
        return [TrunkTokens(one, grid) for one in tokens]

    def _find(self, seen: TrunkTokens, image: EmbedderImage, masks: Tensor) -> RegionEmbeddings:
        v = self.options.v
        coverage = mask_coverage(masks, seen.grid, self._placed(image)).to(seen.tokens)
        everything = torch.ones_like(coverage[:1])  # masks nothing: the image embedding
        found = self._masked(seen, torch.cat([everything, coverage]))
        regions = v * found[1:]
        if v < 1:
            regions = regions + (1 - v) * self._crops(image, masks)
        return RegionEmbeddings(regions, found[0])

    @property
    def _key(self) -> tuple[Hashable, ...]:
        return (TrunkTokens, self.options.masked_blocks)

    def _masked(self, seen: TrunkTokens, coverage: Tensor) -> Tensor:
        """Global features ``[M, d]`` of one image under ``coverage [M, n]``."""
        blocks, head = self.backbone.blocks()[-self.options.masked_blocks :], self.backbone.head()
        found = []
        for shares in coverage.split(AT_ONCE):
            kept = torch.ones_like(shares[:, :1]).expand(-1, head.prefix)
            factors = torch.cat([kept, shares], 1)[:, :, None]
            x = seen.tokens.expand(len(shares), -1, -1)
            for block in blocks:
                x = block.at(seen.grid)(x * factors)
            found += [  # same bits in any company
                _readout(head, one, factor) for one, factor in zip(x.split(1), factors, strict=True)
            ]
        return torch.cat(found)

    def _crops(self, image: EmbedderImage, masks: Tensor) -> Tensor:
        pictures = self._local.pictures(as_picture(image), masks)
        return torch.stack(list(self._local.vectors(pictures)))


def _readout(head: Head, x: Tensor, factor: Tensor) -> Tensor:
    """Global feature ``[1, d]`` of tokens ``[1, N, D]`` that count by ``factor [N, 1]``."""
    if head.pooling == "cls":
        return head.readout(x[:, 0])
    if head.pooling == "attention":
        return head.readout(head.block(x * factor)[:, 0])
    patches = slice(head.prefix, None)
    return head.readout((x * factor)[:, patches].sum(1) / factor[patches].sum())
