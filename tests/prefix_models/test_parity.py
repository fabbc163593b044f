"""Our decoding against tokens written by the published generate2 and generate_beam."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

CASES = json.loads((Path(__file__).parent / "reference/clipcap_tokens.json").read_text())
PERIOD = 13


@pytest.mark.parametrize("entry", CASES, ids=lambda entry: str(entry["case"]["seed"]))
def test_tokens_equal_the_published_code(entry: dict[str, Any], benchmark: ModuleType) -> None:
    case = benchmark.Case(**entry["case"])
    model, embeddings = benchmark.build(case)
    greedy, beam = benchmark.ours(model, embeddings, case)
    assert greedy == entry["greedy"]
    assert beam == entry["beam"]


def test_reference_covers_what_matters() -> None:
    greedy = [row for entry in CASES for row in entry["greedy"]]
    beams = [row for entry in CASES for row in entry["beam"]]
    assert {len(row) for row in greedy} >= {1, 2, 8, 24}
    assert any(row == [PERIOD] for row in greedy)  # the published code itself fails here
    assert any(row[-1] != PERIOD for row in greedy)
    assert sum(len({len(one) for one in row}) > 1 for row in beams) > 20
    assert any(len(one) >= 24 for row in beams for one in row)
    assert {entry["case"]["prefix_length"] for entry in CASES} == {1, 4, 10}


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
