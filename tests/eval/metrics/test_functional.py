import math
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eval.metrics.functional import (
    accuracy_at,
    caption_order,
    exact_mean,
    expected_accuracy_at,
    expected_hits,
    macro_accuracy,
    mean_iou,
    micro_accuracy,
    overall_iou,
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
    orders = caption_order(torch.tensor([[0.1, 0.9, 0.9], [0.5, 0.2, 0.3]]), ["a", "b", "b"])
    assert orders == [[1, 0], [0, 1]]
    # The copy has a higher score by rounding: it still counts as the first.
    assert caption_order(torch.tensor([[0.1, 0.9, 0.9000001]]), ["a", "b", "b"]) == [[1, 0]]


@given(SCORES)
def test_captions_that_tie_take_the_earlier_expression(scores):
    orders = caption_order(torch.tensor(scores), ["a", "b", "c", "d"])
    assert orders == [sorted(range(4), key=lambda i: -row[i]) for row in scores]


@given(st.lists(st.integers(0, 12)), st.sampled_from([1, 5, 10]))
def test_accuracy_is_the_share_of_hits(ranks, k):
    found = accuracy_at(torch.tensor(ranks, dtype=torch.int64), k)
    assert found == np.mean([rank < k for rank in ranks]) if ranks else math.isnan(found)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 6))), st.sampled_from([1, 5]))
def test_expected_accuracy_is_the_mean_chance(pairs, k):
    above, tied = (torch.tensor([pair[i] for pair in pairs], dtype=torch.int64) for i in (0, 1))
    chances = [min(max(k - a, 0), t) / t for a, t in pairs]
    found = expected_accuracy_at(above, tied, k)
    assert found == pytest.approx(np.mean(chances)) if pairs else math.isnan(found)


COUNTS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)))


@given(COUNTS)
def test_ious_are_those_of_each_query_and_of_all_pixels(pairs):
    both = [min(pair) for pair in pairs]
    either = [max(pair) for pair in pairs]
    columns = [torch.tensor(column, dtype=torch.int64) for column in (both, either)]
    mean, overall = mean_iou(*columns), overall_iou(*columns)
    if not pairs:
        assert math.isnan(mean) and math.isnan(overall)
        return
    shares = [i / u if u else 0 for i, u in zip(both, either, strict=True)]
    assert mean == pytest.approx(np.mean(shares))
    assert overall == (sum(both) / sum(either) if sum(either) else 0)


@given(st.lists(st.lists(st.booleans(), min_size=1)))
def test_micro_is_over_all_and_macro_over_groups(groups):
    right = torch.tensor([sum(flags) for flags in groups], dtype=torch.int64)
    total = torch.tensor([len(flags) for flags in groups], dtype=torch.int64)
    micro, macro = micro_accuracy(right, total), macro_accuracy(right, total)
    if not groups:
        assert math.isnan(micro) and math.isnan(macro)
        return
    assert micro == pytest.approx(np.mean([flag for flags in groups for flag in flags]))
    assert macro == pytest.approx(np.mean([np.mean(flags) for flags in groups]))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1), st.randoms())
def test_mean_does_not_depend_on_the_order(values, random):
    mixed = values.copy()
    random.shuffle(mixed)
    assert exact_mean(values) == exact_mean(mixed)


def test_mean_of_nothing_is_nan():
    assert math.isnan(exact_mean([]))
