"""Contrastive losses of a batch in which several captions may say the same."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def softmax_loss(logits: Tensor, same: Tensor) -> Tensor:
    """CLIP's loss (Radford et al. 2021), with equal captions all positives.

    Args:
        logits: `[B, B + F]` of images and captions, the F false ones last.
        same: bool `[B, B]`: which of the true captions say what an image's own does.
    """
    targets = same / same.sum(1, keepdim=True)
    false = logits.shape[1] - len(logits)
    of_images = F.cross_entropy(logits, F.pad(targets, (0, false)))
    return (of_images + F.cross_entropy(logits[:, : len(logits)].T, targets)) / 2


def sigmoid_loss(logits: Tensor, same: Tensor) -> Tensor:
    """SigLIP's loss (Zhai et al. 2023, eq. 1): every pair is a question of its own.

    Args and result as of `softmax_loss`; the logits include SigLIP's bias.
    """
    signs = F.pad(2.0 * same - 1, (0, logits.shape[1] - len(logits)), value=-1.0)
    return -F.logsigmoid(signs * logits).sum() / len(logits)
