"""The metrics as pure functions, without state and on any device."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def target_ranks(scores: Tensor, targets: Tensor) -> Tensor:
    """Return the rank of each query's target among its candidates; 0 is first.

    Ties go to the earlier candidate, as with ``argmax``. So a method that cannot tell candidates
    apart gets a fixed result, not a lucky one.

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
    """Count the candidates that score higher than each query's target, and those that tie.

    Args:
        scores, targets: as in ``target_ranks``.

    Returns:
        int64 ``[Q]`` each; a target ties with itself, so the second is at least 1.
    """
    own = scores.gather(1, targets[:, None])
    return (scores > own).sum(1), (scores == own).sum(1)


def expected_hits(above: Tensor, tied: Tensor, top_k: int) -> Tensor:
    """Return the chance ``[Q]``, float64, that each target is in the top k with random ties.

    Arguments as ``tie_counts`` returns them. If all n candidates tie, it is min(k, n) / n.
    """
    return ((top_k - above).double() / tied).clamp(0, 1)


def overlap(chosen: np.ndarray, target: np.ndarray) -> tuple[int, int]:
    """Count the pixels in both and in either of two masks, bool ``[H, W]``."""
    return int((chosen & target).sum()), int((chosen | target).sum())


def caption_order(similarities: Tensor, expressions: Sequence[str]) -> list[list[int]]:
    """Return, for each caption, the different expressions from the nearest to the farthest.

    Equal expressions are one candidate, represented by the first, so that a rounding error can't
    rank one copy above another. Ties go to the earlier expression.

    Args:
        similarities: ``[M, E]``, captions by expressions.
        expressions: E texts.

    Returns:
        M lists of positions in ``expressions``; for equal texts always the first.
    """
    first = {text: i for i, text in reversed(list(enumerate(expressions)))}
    kept = torch.tensor(sorted(first.values()), device=similarities.device)
    return kept[similarities[:, kept].argsort(dim=1, descending=True, stable=True)].tolist()


def accuracy_at(ranks: Tensor, top_k: int) -> float:
    """Return Acc@k, the share of ranks (int64 ``[Q]``) below k, [0, 1]; NaN of no query."""
    return _share(int((ranks < top_k).sum()), len(ranks))


def expected_accuracy_at(above: Tensor, tied: Tensor, top_k: int) -> float:
    """Return the mean of ``expected_hits``, [0, 1]; NaN of no query."""
    return exact_mean(expected_hits(above, tied, top_k))


def mean_iou(intersections: Tensor, unions: Tensor) -> float:
    """Return mIoU, the mean of intersection / union over queries, [0, 1]; NaN of no query.

    Args:
        intersections, unions: pixel counts, int64 ``[Q]`` each, as ``overlap`` returns them. With
            an empty union the IoU is 0, as in the published evaluations.
    """
    return exact_mean(intersections.double() / unions.clamp_min(1))


def overall_iou(intersections: Tensor, unions: Tensor) -> float:
    """Return oIoU, all intersections / all unions, [0, 1]; arguments as ``mean_iou``."""
    return _share(int(intersections.sum()), max(int(unions.sum()), 1)) if len(unions) else math.nan


def micro_accuracy(right: Tensor, total: Tensor) -> float:
    """Return the share of right items among all, [0, 1]; NaN of none.

    Args:
        right, total: number of items in each group, such as an image; int64 ``[G]`` each.
    """
    return _share(int(right.sum()), int(total.sum()))


def macro_accuracy(right: Tensor, total: Tensor) -> float:
    """Return the mean of the groups' shares; as ``micro_accuracy``, but no group may be empty."""
    return exact_mean(right.double() / total)


def clip_scores(cosines: Tensor) -> Tensor:
    """Return CLIPScore (Hessel et al. 2021), ``2.5 * max(cosine, 0)``, [0, 2.5].

    Args:
        cosines: cosines of captions ("A photo depicts ...") with their images, any shape.
    """
    return 2.5 * cosines.clamp_min(0)


def ref_clip_scores(cosines: Tensor, reference_cosines: Tensor) -> Tensor:
    """Return RefCLIPScore, the harmonic mean of CLIPScore and the cosine with a reference.

    Args:
        cosines: as in ``clip_scores``.
        reference_cosines: cosines of the same captions with the nearest of their references.

    Returns:
        Scores of the same shape in [0, 10/7]; 0 where either cosine is not positive.
    """
    seen, told = clip_scores(cosines), reference_cosines.clamp_min(0)
    return torch.where(seen * told > 0, 2 * seen * told / (seen + told), 0)


def exact_mean(values: Sequence[float] | Tensor) -> float:
    """Return the mean, rounded once, so that it does not depend on the order; NaN of nothing."""
    numbers = values.tolist() if isinstance(values, Tensor) else list(values)
    return math.fsum(numbers) / len(numbers) if numbers else math.nan


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
