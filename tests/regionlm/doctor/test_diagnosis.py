"""What a report says, and what it keeps to itself."""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regionlm.doctor import Diagnosis, DiagnosisSection, Row
from regionlm.doctor.run_check import clean, make_section, run_check
from regionlm.errors import InputError, ModelWarning

_ROWS = (
    Row("torch", "2.9.0", "2.14.1", "note", "not the version that was tested"),
    Row("numpy", "2.4.6", "2.4.6"),
)


def test_lines_are_aligned_and_the_last_one_is_the_verdict() -> None:
    report = Diagnosis("0.1.0", (DiagnosisSection("versions", _ROWS, ("installed", "tested")),))
    assert report.text().splitlines() == [
        "regionlm 0.1.0",
        "",
        "       versions  installed  tested",
        "note   torch     2.9.0      2.14.1  not the version that was tested",
        "       numpy     2.4.6      2.4.6",
        "",
        "all is well",
    ]


def test_all_that_is_wrong_is_in_the_last_line() -> None:
    wrong = (
        Row("peft", "0.17.0", "0.21.2", "wrong", "older than asked"),
        Row("caption", '"a dog"', '"a fish"', "wrong"),
    )
    one = Diagnosis("0.1.0", (DiagnosisSection("model", wrong[:1]),))
    assert one.text().splitlines()[-1] == "1 thing is wrong: peft 0.17.0: older than asked"
    both = Diagnosis(
        "0.1.0", (DiagnosisSection("versions", _ROWS), DiagnosisSection("model", wrong))
    )
    said = ["peft 0.17.0: older than asked", 'caption "a dog": expected "a fish"']
    assert both.text().splitlines()[-1] == f"2 things are wrong: {'; '.join(said)}"
    assert both.faults == said
    assert both.notes == ["torch 2.9.0: not the version that was tested"]


def test_figures_are_json_values() -> None:
    report = Diagnosis("0.1.0", (DiagnosisSection("versions", _ROWS),))
    figures = json.loads(json.dumps(report.to_dict()))
    assert figures["faults"] == [] and figures["regionlm"] == "0.1.0"
    assert figures["sections"]["versions"][1] == {
        "name": "numpy", "found": "2.4.6", "expected": "2.4.6", "state": "ok", "note": "",
    }  # fmt: skip


def test_an_exception_is_a_row_and_so_are_warnings_to_users() -> None:
    def check() -> Iterator[Row]:
        yield Row("first", "seen")
        for _ in range(2):
            warnings.warn("which GELU?", ModelWarning, stacklevel=1)
        warnings.warn("a developer's notice", RuntimeWarning, stacklevel=1)
        raise KeyError("weights\nand more")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as the command line does
        rows = run_check("model", check)
    assert rows == [
        Row("first", "seen"),
        Row("model", "failed", "", "wrong", "KeyError: 'weights\\nand more'"),
        Row("model", "warns", "", "note", "which GELU?"),
    ]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (InputError("no region given"), "no region given"),
        (OSError("libcudart.so\nis missing"), "OSError: libcudart.so"),
        (RuntimeError(), "RuntimeError"),
    ],
)
def test_an_exception_is_one_line(error: Exception, said: str) -> None:
    def check() -> Iterator[Row]:
        raise error

    (row,) = run_check("model", check)
    assert (row.state, row.note) == ("wrong", said)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("{home}/models/mine: has no config.json", "~/models/mine: has no config.json"),
        ("no folder '{home}'", "no folder '~'"),
        ("/mnt{home}/x", "/mnt{home}/x"),
        ("{home}-old/x", "{home}-old/x"),
        ("http://me:secret@proxy:80 refused", "http://proxy:80 refused"),
        ("Bearer hf_abcdefghijkl is no token", "Bearer hf_*** is no token"),
        ("\x1b[31mred\x1b[0m\n  line", "[31mred [0m line"),
    ],
)
def test_what_is_nobodys_business_is_not_told(
    text: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    text, shown = (one.format(home=tmp_path) for one in (text, shown))
    assert clean(text) == shown
    (row,) = make_section(text, [Row(text, text, text, "wrong", text)]).rows
    assert row == Row(shown, shown, shown, "wrong", shown)


@given(st.text())
def test_whatever_a_text_holds_becomes_one_line(text: str) -> None:
    shown = clean(text)
    assert shown.isprintable() and clean(shown) == shown


def test_a_home_that_is_the_root_of_all_folders_hides_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/")
    assert clean("/opt/models") == "/opt/models"
