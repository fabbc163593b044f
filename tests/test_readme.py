"""What the README tells people to type works."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from regionlm.cli.main import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
USE = README[README.index("## Use") :]
COMMANDS = [
    line.split("  #")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", USE, re.S)
    for line in block.splitlines()
    if line.startswith("regionlm ")
]
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.S)


@pytest.fixture
def in_checkout(tmp_path, monkeypatch):
    """A folder that looks like the checkout but collects what the commands write."""
    for name in ("configs", "examples", "regionlm", "training"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)


def test_readme_has_commands_and_snippets():
    assert len(COMMANDS) >= 4 and len(SNIPPETS) >= 2


NAMES = {"sand-labels": ["fox", "fish", "book"], "--box": ["pineapple"], "snow-cheese": ["cheese"]}


@pytest.mark.parametrize("command", COMMANDS)
def test_command(command, in_checkout, capsys):
    argv = shlex.split(command)[1:]
    if argv[0] == "eval":  # its two processes run the program's own command line again
        command_line = [sys.executable, "-m", "regionlm", *argv]
        said = subprocess.run(command_line, check=True, capture_output=True, text=True).stdout
    else:
        assert main(argv) == 0
        said = capsys.readouterr().out
    assert said.strip()
    if "regionlm caption examples/" in command and "--embedder" not in command:
        (names,) = (names for what, names in NAMES.items() if what in command)
        assert all(name in said for name in names)


def test_the_manifest_is_answered_rightly(in_checkout, capsys):
    (command,) = (command for command in COMMANDS if "--manifest" in command)
    assert main(shlex.split(command)[1:]) == 0
    lines = [json.loads(line) for line in Path("captions.jsonl").read_text().splitlines()]
    captions = [region["caption"] for line in lines for region in line["regions"]]
    names = ["fox", "fish", "book", "cheese", "pineapple"]
    assert len(captions) == len(names)
    assert all(any(name in caption for caption in captions) for name in names), captions


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_snippet(number, in_checkout, capsys):
    exec(compile(SNIPPETS[number], f"README snippet {number}", "exec"), {})
    assert capsys.readouterr().out.strip()


def test_set_up_is_two_commands():
    section = re.search(r"## Set-up\n(.*?)\n## ", README, re.S)
    assert section
    blocks = re.findall(r"```bash\n(.*?)```", section.group(1), re.S)
    assert len(blocks) == 2
    assert "txt . && regionlm caption examples/" in blocks[0] and "pytest" in blocks[1]


def test_files_named_in_the_readme_exist():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
