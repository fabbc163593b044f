"""The script behind two sentences of eval/README.md runs, and a row is what it says it is."""

from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def questions(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import mini_questions

    return mini_questions


def _cells(lines, first):
    (line,) = [line for line in lines if line.startswith(f"| {first} |")]
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_both_tables(questions, capsys):
    questions.main(limit=2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2 scenes, 5 regions"
    plain, circled = _cells(lines, "as it is"), _cells(lines, "line of 4 % of the side")
    # One vector for all regions is near to one text of each scene.
    assert plain[0] == "40.0" and plain[1] == plain[2] and plain[3] == "1.000"
    assert float(circled[3]) < 0.99
    assert all(float(row[4]) + float(row[5]) + float(row[6]) == pytest.approx(100, abs=0.2)
               for row in (plain, circled))  # fmt: skip
    lengths = [line.split("|")[3:5] for line in lines if "| rescaled |" in line]
    assert len(lengths) == 2 and all(float(let) == pytest.approx(float(image), rel=0.05)
                                     for let, image in lengths)  # fmt: skip
