"""What the README tells people to type works, and it is short."""

import re

import pytest

from tests.documents import blocks, broken_links, commands, page, run_command, run_snippet

README = page("README.md")
COMMANDS = commands(README[README.index("## Use") :])
SNIPPETS = blocks(README, "python")
WORDS = 700


def test_it_takes_three_minutes():
    assert len(README.split()) <= WORDS


def test_readme_has_commands_and_a_snippet():
    assert len(COMMANDS) == 4 and len(SNIPPETS) == 1


NAMES = {"sand-labels": ["fox", "fish", "book"], "--box": ["pineapple"], "snow-cheese": ["cheese"]}


@pytest.mark.parametrize("command", COMMANDS)
def test_command(command, in_checkout, capsys):
    said = run_command(command, capsys)
    assert said.strip()
    if "regionlm caption examples/" in command and "--embedder" not in command:
        (names,) = (names for what, names in NAMES.items() if what in command)
        assert all(name in said for name in names)


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_snippet(number, in_checkout, capsys):
    assert run_snippet(SNIPPETS[number], f"README snippet {number}", capsys).strip()


def test_set_up_is_two_commands():
    section = re.search(r"## Set-up\n(.*?)\n## ", README, re.S)
    assert section
    set_up = blocks(section.group(1), "bash")
    assert len(set_up) == 2
    assert "txt . && regionlm caption examples/" in set_up[0] and "pytest" in set_up[1]


def test_links():
    assert broken_links("README.md") == []


def _tables(text):
    """Rows of all tables that hold figures, as lists of cells."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    return [row for row in rows if any(re.search(r"\d[\d.]* ?%|\d\.\d\d", cell) for cell in row)]


def test_its_figures_are_those_of_docs():
    docs = _tables(page("docs/evaluation.md")) + _tables(page("docs/parity-and-speed.md"))
    rows = _tables(README)
    assert len(rows) == 7
    for row in rows:
        assert any(row == full[: len(row)] for full in docs), row
