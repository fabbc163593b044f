"""Ours against what the published code gave: tokens, logits, and names of weights.

`benchmarks/clipcap_reference.py --write` ran generate2, generate_beam and the published models on
the weights that `benchmarks/clipcap_cases.py` builds here again.
"""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from prefix_models import original_state_dict

REFERENCE = Path(__file__).parents[1] / "reference"
CASES = json.loads((REFERENCE / "clipcap_tokens.json").read_text())
LAYOUTS = json.loads((REFERENCE / "clipcap_layouts.json").read_text())
LOGITS = np.load(REFERENCE / "clipcap_logits.npz")
PERIOD = 13


def seed(entry: dict[str, Any]) -> str:
    return str(entry["case"]["seed"])


@pytest.mark.parametrize("entry", CASES, ids=seed)
def test_tokens_equal_the_published_code(entry: dict[str, Any], benchmark: ModuleType) -> None:
    case = benchmark.Case(**entry["case"])
    model, embeddings = benchmark.build(case)
    greedy, beam = benchmark.our_tokens(model, embeddings, case)
    assert greedy == entry["greedy"]
    assert beam == entry["beam"]


@pytest.mark.parametrize("entry", [one for one in CASES if seed(one) in LOGITS], ids=seed)
def test_logits_equal_the_published_code(entry: dict[str, Any], benchmark: ModuleType) -> None:
    """In float64, in which rounding is far below what the reference is stored with."""
    case = benchmark.Case(**entry["case"])
    model, embeddings = benchmark.build(case)
    ids = benchmark.some_tokens(case)
    expected = torch.from_numpy(LOGITS[seed(entry)])
    got = benchmark.our_logits(model.double(), embeddings.double(), ids).float()
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)
    other = benchmark.our_logits(model, embeddings.double().roll(1, 0), ids).float()
    assert (other - expected).abs().amax() > 0.01  # the embeddings do count


@pytest.mark.parametrize("entry", LAYOUTS, ids=lambda entry: entry["case"]["mapper"])
def test_export_has_the_published_names_and_shapes(
    entry: dict[str, Any], benchmark: ModuleType
) -> None:
    model, _ = benchmark.build(benchmark.Case(**entry["case"]))
    weights = original_state_dict(model)
    assert {name: list(value.shape) for name, value in weights.items()} == entry["weights"]


def test_reference_covers_what_matters() -> None:
    greedy = [row for entry in CASES for row in entry["greedy"]]
    beams = [row for entry in CASES for row in entry["beam"]]
    assert {len(row) for row in greedy} >= {1, 2, 8, 24}
    assert any(row == [PERIOD] for row in greedy)  # the published code itself fails here
    assert any(row[-1] != PERIOD for row in greedy)
    assert sum(len({len(one) for one in row}) > 1 for row in beams) > 20
    assert any(len(one) >= 24 for row in beams for one in row)
    cases = [entry["case"] for entry in CASES]
    assert {case["prefix_length"] for case in cases} == {1, 4, 10, 12, 40}
    settings = {(case["mapper"], case["normalize_input"]) for case in cases}
    assert settings == {(m, n) for m in ("linear", "mlp", "transformer") for n in (False, True)}
    assert {case["copies"] for case in cases} == {1, 2, 4}
    kinds = {entry["case"]["mapper"] for entry in CASES if seed(entry) in LOGITS}
    assert kinds == {entry["case"]["mapper"] for entry in LAYOUTS} == {m for m, _ in settings}


@pytest.mark.parametrize("entry", [e for e in CASES if e["case"]["copies"] > 1], ids=seed)
def test_ties(entry: dict[str, Any], benchmark: ModuleType) -> None:
    """These tokens tie with their copies at every step; the published choice is also ours."""
    case = benchmark.Case(**entry["case"])
    model, embeddings = benchmark.build(case)
    distinct = case.vocabulary // case.copies
    logits = benchmark.our_logits(model, embeddings, benchmark.some_tokens(case))
    copies = logits.unflatten(-1, (case.copies, distinct))
    assert torch.equal(copies, copies[..., :1, :].expand_as(copies))
    assert all(token < distinct for row in entry["greedy"] for token in row)  # the lowest id


def test_ties_within_beams() -> None:
    """Hypotheses of one beam that differ in nothing but which copy of a token they took."""
    tied = 0
    for entry in CASES:
        distinct = entry["case"]["vocabulary"] // entry["case"]["copies"]
        for row in entry["beam"]:
            tied += len({tuple(token % distinct for token in one) for one in row}) < len(row)
    assert tied > 20


def test_a_finished_hypothesis_can_be_evicted(benchmark: ModuleType) -> None:
    """The quirk that sets this search apart: some beam's best greedy-like ending is lost."""
    evicted = 0
    for entry in CASES:
        case = benchmark.Case(**entry["case"])
        if case.max_new_tokens < 8:
            continue
        model, embeddings = benchmark.build(case)
        short = model.beams(embeddings, max_new_tokens=3, beam_size=case.beam_size)
        long = model.beams(embeddings, max_new_tokens=8, beam_size=case.beam_size)
        for before, after in zip(short, long, strict=True):
            ended = {tuple(one.token_ids) for one in before if one.token_ids[-1] == PERIOD}
            evicted += bool(ended - {tuple(one.token_ids) for one in after})
    assert evicted
