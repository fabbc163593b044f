"""LeGrad of the last block, and its derivative, as explicit functions of the token."""

from __future__ import annotations

import torch
from torch import Tensor

from regionlm.backbones.vision import EncodedImages
from regionlm.relevance.attention_map import AttentionMap
from regionlm.relevance.budget import Budget
from regionlm.relevance.query_map import MergedWeights
from regionlm.relevance.score import Score


class LeGrad(AttentionMap):
    """``E_j = mean over heads and queries of relu(dscore / dA)[:, :, j]``, for one encoded image.

    Bousselham et al. 2024 (arXiv 2404.03214) and MaskInversion, eq. 1-4, of the last block alone,
    as MaskInversion uses it.

    Args:
        images: what ``ClipViT.encode`` returned.
        index: which image of the batch.
        rows: tokens whose queries stand for all, ``[n]`` int64, among those that the score reads
            (``head.score_tokens``); default: all of them.
        score: ``"cosine"`` or ``"dot"`` (``relevance.score``); default: what suits the model's
            pooling.
        weights: merged weights of ``images.head.block`` (made here when not given).
        masks: how many tokens will be asked for at most; buffers are no larger than needed.
        budget: buffer sizes; default: by device.
    """

    @torch.no_grad()
    def __init__(
        self,
        images: EncodedImages,
        index: int = 0,
        *,
        rows: Tensor | None = None,
        score: Score | None = None,
        weights: MergedWeights | None = None,
        masks: int = 1,
        budget: Budget | None = None,
    ) -> None:
        tokens = images.residual.shape[1]
        scored = len(range(tokens)[images.head.score_tokens])
        super().__init__(
            images,
            index,
            # The score reads no other token, so no other has a gradient.
            rows=images.head.score_tokens if rows is None else rows,
            averaged=tokens if rows is None else tokens * len(rows) / scored,
            factors=None,
            score=score,
            weights=weights,
            masks=masks,
            budget=budget,
        )
