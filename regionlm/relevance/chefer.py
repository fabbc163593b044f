"""CheferCAM: the last block's attention times the score's gradient, as a function of the token."""

from __future__ import annotations

import torch

from regionlm.backbones.vision import EncodedImages
from regionlm.relevance.attention_map import AttentionMap
from regionlm.relevance.budget import Budget
from regionlm.relevance.query_map import MergedWeights
from regionlm.relevance.score import Score


class CheferCam(AttentionMap):
    """Chefer et al. 2021 (arXiv 2103.15679) on the last block alone, for one encoded image.

    Their rule is ``R = I + mean over heads of relu(A * dscore / dA)``, and the map is the row of R
    that belongs to the token which the model reads. MaskInversion's Table 8 names the method; the
    code of that row is not published, so these are choices:

    - the last block only, as in their CLIP notebook, and as LeGrad here;
    - the score is LeGrad's (``relevance.score``), so that methods differ in nothing else. Their
      notebook scores the [CLS] embedding; from there the inversion could not start, for its token
      *is* that embedding, and the cosine has no gradient at its maximum;
    - a mean-pooled model reads the mean of its patches, so the mean over the rows of the patches
      stands for the [CLS] row;
    - R's identity is left out: it is zero off the diagonal, and in a mean over the rows a constant,
      which min-max scaling takes away.

    A is no function of the token: a patch that the image tower does not attend to cannot light up,
    whatever the token.

    Args:
        images: what ``ClipViT.encode`` returned.
        index: which image of the batch.
        score: ``"cosine"`` or ``"dot"``; default: what suits the model's pooling.
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
        score: Score | None = None,
        weights: MergedWeights | None = None,
        masks: int = 1,
        budget: Budget | None = None,
    ) -> None:
        rows = images.head.pooled_tokens
        attention = images.attention(index, rows)
        super().__init__(
            images,
            index,
            rows=rows,
            averaged=attention.shape[1],
            factors=attention[:, :, images.head.prefix :],
            score=score,
            weights=weights,
            masks=masks,
            budget=budget,
        )
