"""The tables' metrics as pure functions: no state, any device."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def target_ranks(scores: Tensor, targets: Tensor) -> Tensor:
    """Rank of each query's target among its candidates; 0 is first.

    Ties go to the earlier candidate, as ``argmax`` has it, so that a method that cannot tell
    candidates apart gets a fixed result and not a lucky one.

    Args:
        scores: ``[Q, C]``, higher is better; no NaN.
        targets: int64 ``[Q]``, columns of ``scores``.

    Returns:
        int64 ``[Q]`` in 0..C-1.

    Raises:
        ValueError: a score is NaN.
    """
    if torch.isnan(scores).any():
        raise ValueError("scores: expected numbers, found NaN")
    own = scores.gather(1, targets[:, None])
    earlier = torch.arange(scores.shape[1], device=scores.device) < targets[:, None]
    return ((scores > own) | ((scores == own) & earlier)).sum(1)


def tie_counts(scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """How many candidates score higher than each query's target, and how many the same.

    Args:
        scores, targets: as in ``target_ranks``.

    Returns:
        int64 ``[Q]`` each; a target ties with itself, so the second is at least 1.
    """
    own = scores.gather(1, targets[:, None])
    return (scores > own).sum(1), (scores == own).sum(1)


def expected_hits(above: Tensor, tied: Tensor, top_k: int) -> Tensor:
    """Chance ``[Q]`` (float64) that a target is in the top k when ties are broken at random.

    Arguments as ``tie_counts`` gives them. Where all n candidates tie that is min(k, n) / n.
    """
    return ((top_k - above).double() / tied).clamp(0, 1)


def overlap(chosen: np.ndarray, target: np.ndarray) -> tuple[int, int]:
    """Pixels in both and in either of two masks, bool ``[H, W]``."""
    return int((chosen & target).sum()), int((chosen | target).sum())


def caption_order(similarities: Tensor, expressions: Sequence[str]) -> list[list[int]]:
    """The different expressions from the nearest to the farthest of each caption.

    Equal expressions count as one, the first of them: then equal captions cannot part. Ties go to
    the earlier expression.

    Args:
        similarities: ``[M, E]`` of captions with expressions.
        expressions: E texts.

    Returns:
        M lists of positions in ``expressions``; of equal texts always the first.
    """
    first = {text: i for i, text in reversed(list(enumerate(expressions)))}
    kept = torch.tensor(sorted(first.values()), device=similarities.device)
    return kept[similarities[:, kept].argsort(dim=1, descending=True, stable=True)].tolist()


def accuracy_at(ranks: Tensor, top_k: int) -> float:
    """Acc@k: share of ranks (int64 ``[Q]``, 0 first) below k, [0, 1]; NaN of no query."""
    return _share(int((ranks < top_k).sum()), len(ranks))


def expected_accuracy_at(above: Tensor, tied: Tensor, top_k: int) -> float:
    """Mean of ``expected_hits``, [0, 1]; NaN of no query."""
    return exact_mean(expected_hits(above, tied, top_k))


def mean_iou(intersections: Tensor, unions: Tensor) -> float:
    """mIoU: mean over queries of intersection / union, [0, 1]; NaN of no query.

    Args:
        intersections, unions: pixels, int64 ``[Q]`` each, as ``overlap`` gives them. An empty union
            is an IoU of 0, as in the published evaluations.
    """
    return exact_mean(intersections.double() / unions.clamp_min(1))


def overall_iou(intersections: Tensor, unions: Tensor) -> float:
    """oIoU: all intersections over all unions, [0, 1]; NaN of no query. As ``mean_iou``."""
    return _share(int(intersections.sum()), max(int(unions.sum()), 1)) if len(unions) else math.nan


def micro_accuracy(right: Tensor, total: Tensor) -> float:
    """Share of what is right among everything, [0, 1]; NaN of nothing.

    Args:
        right, total: int64 ``[G]`` each, counts in each group, such as an image.
    """
    return _share(int(right.sum()), int(total.sum()))


def macro_accuracy(right: Tensor, total: Tensor) -> float:
    """Mean of the groups' shares, [0, 1]; NaN of nothing. As ``micro_accuracy``, no group empty."""
    return exact_mean(right.double() / total)


def clip_scores(cosines: Tensor) -> Tensor:
    """CLIPScore (Hessel et al. 2021): ``2.5 * max(cosine, 0)`` of caption and picture, [0, 2.5].

    Args:
        cosines: any shape, of the caption ("A photo depicts ...") with the picture.
    """
    return 2.5 * cosines.clamp_min(0)


def ref_clip_scores(cosines: Tensor, reference_cosines: Tensor) -> Tensor:
    """RefCLIPScore: harmonic mean of CLIPScore and of the caption's best cosine with a reference.

    Args:
        cosines: as in ``clip_scores``.
        reference_cosines: of the same captions with the nearest of their references.

    Returns:
        Of that shape, in [0, 10/7]; 0 where either is not above 0.
    """
    seen, told = clip_scores(cosines), reference_cosines.clamp_min(0)
    return torch.where(seen * told > 0, 2 * seen * told / (seen + told), 0)


def exact_mean(values: Sequence[float] | Tensor) -> float:
    """Mean, rounded once: the same digits in whatever order the values come. NaN of nothing."""
    numbers = values.tolist() if isinstance(values, Tensor) else list(values)
    return math.fsum(numbers) / len(numbers) if numbers else math.nan


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
