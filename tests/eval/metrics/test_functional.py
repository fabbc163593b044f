import math
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eval.metrics.functional import (
    caption_choice,
    exact_mean,
    expected_hits,
    overlap,
    target_ranks,
    tie_counts,
)

SCORES = st.lists(
    st.lists(st.integers(0, 3), min_size=4, max_size=4), min_size=1, max_size=5
)  # few values, so that ties are common


@given(SCORES, st.data())
def test_rank_is_the_place_in_a_stable_sort(scores, data):
    targets = data.draw(st.lists(st.integers(0, 3), min_size=len(scores), max_size=len(scores)))
    ranks = target_ranks(torch.tensor(scores, dtype=torch.float32), torch.tensor(targets))
    for row, target, rank in zip(scores, targets, ranks.tolist(), strict=True):
        order = sorted(range(4), key=lambda i: -row[i])
        assert order.index(target) == rank


@given(SCORES, st.integers(1, 4))
def test_chances_of_all_candidates_add_up_to_k(scores, k):
    table = torch.tensor(scores, dtype=torch.float32)
    counts = [tie_counts(table, torch.full((len(scores),), target)) for target in range(4)]
    total = sum(expected_hits(*of_target, k) for of_target in counts)
    torch.testing.assert_close(total, torch.full((len(scores),), float(k), dtype=torch.float64))


@given(st.lists(st.integers(0, 2), min_size=4, max_size=4), st.integers(0, 3), st.integers(1, 4))
def test_chance_is_the_mean_over_all_ways_to_break_ties(scores, target, k):
    orders = [sorted(mixed, key=lambda i: -scores[i]) for mixed in permutations(range(len(scores)))]
    wanted = sum(order.index(target) < k for order in orders) / len(orders)
    counts = tie_counts(torch.tensor([scores]), torch.tensor([target]))
    assert expected_hits(*counts, k).item() == pytest.approx(wanted)


def test_nan_is_no_score():
    with pytest.raises(ValueError, match="NaN"):
        target_ranks(torch.tensor([[0.0, math.nan]]), torch.tensor([0]))


def test_overlap_counts_pixels():
    left, right = np.zeros((4, 5), bool), np.zeros((4, 5), bool)
    left[:2], right[1:3] = True, True
    assert overlap(left, right) == (5, 15)


def test_equal_expressions_are_one_choice():
    nearest = caption_choice(torch.tensor([[0.1, 0.9, 0.9], [0.5, 0.2, 0.3]]), ["a", "b", "b"])
    assert nearest == [1, 0]
    # The copy has a higher score by rounding: it still counts as the first.
    assert caption_choice(torch.tensor([[0.1, 0.9, 0.9000001]]), ["a", "b", "b"]) == [1]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1), st.randoms())
def test_mean_does_not_depend_on_the_order(values, random):
    mixed = values.copy()
    random.shuffle(mixed)
    assert exact_mean(values) == exact_mean(mixed)


def test_mean_of_nothing_is_nan():
    assert math.isnan(exact_mean([]))
