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


def expected_hits(scores: Tensor, targets: Tensor, top_k: int) -> Tensor:
    """Chance ``[Q]`` (float64) that a target is in the top k when ties are broken at random.

    Arguments as in ``target_ranks``.
    """
    own = scores.gather(1, targets[:, None])
    above = (scores > own).sum(1).double()
    tied = (scores == own).sum(1).double()
    return ((top_k - above) / tied).clamp(0, 1)


def overlap(chosen: np.ndarray, target: np.ndarray) -> tuple[int, int]:
    """Pixels in both and in either of two masks, bool ``[H, W]``."""
    return int((chosen & target).sum()), int((chosen | target).sum())


def caption_choice(similarities: Tensor, expressions: Sequence[str]) -> list[int]:
    """Which expression each caption is nearest to.

    Equal expressions count as one, the first of them: then equal captions cannot part.

    Args:
        similarities: ``[M, E]`` of captions with expressions.
        expressions: E texts.

    Returns:
        M positions in ``expressions``; of equal texts always the first.
    """
    first = {text: i for i, text in reversed(list(enumerate(expressions)))}
    kept = torch.tensor(sorted(first.values()), device=similarities.device)
    return kept[similarities[:, kept].argmax(1)].tolist()


def exact_mean(values: Sequence[float] | Tensor) -> float:
    """Mean, rounded once: the same digits in whatever order the values come. NaN of nothing."""
    numbers = values.tolist() if isinstance(values, Tensor) else list(values)
    return math.fsum(numbers) / len(numbers) if numbers else math.nan
