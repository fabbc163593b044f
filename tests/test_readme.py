"""What the README tells people to type works."""

import re
import shlex
from pathlib import Path

import pytest

from regionlm.cli import main

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


@pytest.mark.parametrize("command", COMMANDS)
def test_command(command, in_checkout, capsys):
    assert main(shlex.split(command)[1:]) == 0
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_snippet(number, in_checkout, capsys):
    exec(compile(SNIPPETS[number], f"README snippet {number}", "exec"), {})
    assert capsys.readouterr().out.strip()


def test_set_up_is_two_commands():
    section = re.search(r"## Set-up\n(.*?)\n## ", README, re.S)
    assert section
    blocks = re.findall(r"```bash\n(.*?)```", section.group(1), re.S)
    assert len(blocks) == 2
    assert "pip install . && regionlm caption examples/" in blocks[0] and "pytest" in blocks[1]


def test_files_named_in_the_readme_exist():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
