"""How the authors' package explains attention-pooled models, where that is not the model itself.

``legrad_torch`` reads SigLIP and CoCa in ways of its own, which one may want for comparison: score
``"published"`` and the correction by the map of an empty text.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from regionlm.backbones.attention_pool import AttentionPool
from regionlm.backbones.vision import EncodedImages, VisionBackbone
from regionlm.relevance.protocol import Relevance
from regionlm.relevance.score import Score

EMPTY_TEXT = "a photo of a"


def as_published(
    backbone: VisionBackbone, images: EncodedImages
) -> tuple[EncodedImages, Score | None]:
    """Encoded images, and the score, that the authors' code explains; ``embeddings`` stay.

    It leaves out a norm of attention-pooled models: SigLIP's before the pool (timm's final norm),
    with a cosine score; CoCa's after the pool (``ln_post``), with a dot product. So f is not the
    image embedding, and even the cosine has a slope there. For [CLS]-pooled models it is the model
    itself with a cosine. Of mean-pooled ones it knows
    nothing: `make_relevance` refuses them.
    """
    head = images.head
    if not isinstance(head.block, AttentionPool):
        return images, "cosine"
    score: Score = "dot"
    if head.norm is None:
        head, score = replace(head, block=replace(head.block, raw=True)), "cosine"
    head = replace(head, norm=None)
    layers = [
        replace(backbone.encode_tokens(one.block_input, one.grid, head), embeddings=one.embeddings)
        for one in (*images.earlier, images)
    ]
    return replace(layers[-1], earlier=tuple(layers[:-1])), score


class EmptyTextCorrection:
    """Maps without the patches that light up for a text that says nothing.

    In ``legrad_torch`` this goes with SigLIP: where the map of "a photo of a", min-max scaled, is
    above a threshold (0.8 there), every map is zero.

    Args:
        method: the maps to correct.
        empty: ``[d]``, the text's embedding.
        threshold: above which a patch is taken out, in [0, 1].
    """

    @torch.no_grad()
    def __init__(self, method: Relevance, empty: Tensor, threshold: float) -> None:
        self._method = method
        self.grid, self.chunk = method.grid, method.chunk
        (found,) = method.forward(F.normalize(empty[None], dim=1)).clone()
        low, high = found.min(), found.max()
        self._kept = (found - low <= threshold * (high - low)).to(found)

    @torch.no_grad()
    def forward(self, tokens: Tensor) -> Tensor:
        """Maps ``[m, gh, gw]`` of tokens ``[m, d]``, m <= ``chunk``."""
        return self._method.forward(tokens) * self._kept

    @torch.no_grad()
    def backward(self, dmaps: Tensor) -> Tensor:
        """As ``Relevance.backward``."""
        return self._method.backward(dmaps * self._kept)
