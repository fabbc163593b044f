"""What docs/ tells people to type works, and its links lead somewhere."""

import json
import pkgutil
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from regionlm.cli.main import main
from tests.documents import (
    ROOT,
    blocks,
    broken_links,
    commands,
    page,
    run_command,
    run_snippet,
)
from tests.scripted_model import ScriptedModel

PAGES = sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))
OTHERS = [
    "CONTRIBUTING.md", "CHANGELOG.md", "eval/README.md", "training/README.md",
    "benchmarks/README.md",
]  # fmt: skip
COMMANDS = list(dict.fromkeys(line for path in PAGES for line in commands(page(path))))
SNIPPETS = {
    f"{path} {number}": body
    for path in PAGES
    for number, body in enumerate(blocks(page(path), "python"))
}
MANIFEST = "regionlm caption --manifest examples/regions.jsonl --output captions.jsonl --devices 1"


def test_there_is_something_to_run():
    assert len(COMMANDS) >= 9 and len(SNIPPETS) >= 6


@pytest.mark.parametrize("command", COMMANDS)
def test_command(command, in_checkout, capsys):
    assert run_command(command, capsys).strip()


def test_the_manifest_is_answered_rightly(in_checkout):
    assert MANIFEST in COMMANDS
    assert main(MANIFEST.split()[1:]) == 0
    lines = [json.loads(line) for line in Path("captions.jsonl").read_text().splitlines()]
    captions = [region["caption"] for line in lines for region in line["regions"]]
    names = ["fox", "fish", "book", "cheese", "pineapple"]
    assert len(captions) == len(names)
    assert all(any(name in caption for caption in captions) for name in names), captions


@pytest.mark.parametrize("name", SNIPPETS)
def test_snippet(name, in_checkout, capsys, monkeypatch):
    monkeypatch.setattr("openai.OpenAI", ScriptedModel)
    assert run_snippet(SNIPPETS[name], name, capsys).strip()


@pytest.mark.parametrize("path", PAGES + OTHERS)
def test_links(path):
    assert broken_links(path) == []


@pytest.mark.parametrize("path", ["docs/architecture.md", "docs/embedders.md", "CONTRIBUTING.md"])
def test_files_and_folders_named_there_exist(path):
    named = re.findall(
        r"`((?:regionlm|prefix_models|training|eval|tests|configs)/[\w./]*)`", page(path)
    )
    assert len(named) >= 1
    assert [one for one in named if not (ROOT / one).exists()] == []


@pytest.mark.parametrize("path", ["README.md", *PAGES, *OTHERS])
def test_modules_and_scripts_named_there_exist(path):
    text = page(path)
    modules = re.findall(r"python -m (training[\w.]*|eval[\w.]*|regionlm[\w.]*)", text)
    assert [one for one in modules if find_spec(one) is None] == []
    scripts = re.findall(r"\b((?:benchmarks|examples)/\w+\.py)", text)
    assert [one for one in scripts if not (ROOT / one).exists()] == []


def test_tests_of_faults_named_there_exist():
    named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", page("docs/faults.md"))
    assert len(named) > 20
    for file, test in named:
        found = (ROOT / file) if file.startswith("tests/") else ROOT / "tests/regionlm/serve" / file
        assert f"def {test}(" in found.read_text(), f"{file}::{test}"


def test_every_page_is_in_the_sites_navigation():
    nav = page("mkdocs.yml").partition("\nnav:")[2]
    listed = re.findall(r": ([\w.-]+\.md)$", nav, re.M)
    assert sorted(f"docs/{file}" for file in listed if (ROOT / "docs" / file).exists()) == PAGES


@pytest.mark.parametrize("name", re.findall(r"^::: ([\w.]+)$", page("docs/python-api.md"), re.M))
def test_what_the_api_page_shows_exists(name):
    assert pkgutil.resolve_name(name).__doc__
