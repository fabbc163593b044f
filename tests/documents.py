"""What a Markdown page tells people to type, and where its links go."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

from regionlm.cli.main import main

ROOT = Path(__file__).parents[1]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def page(path: str) -> str:
    """Text of a page, by its path from the repository's root."""
    return (ROOT / path).read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """Contents of the fenced blocks of a language."""
    return [body for name, body in _FENCE.findall(text) if name == language]


def commands(text: str) -> list[str]:
    """Lines of bash blocks that run regionlm, without what is said about them."""
    lines = "".join(blocks(text, "bash")).splitlines()
    return [line.split("  #")[0].strip() for line in lines if line.startswith("regionlm ")]


def run_command(command: str, capsys) -> str:
    """Run a regionlm command, which must end with 0; what it printed."""
    argv = shlex.split(command)[1:]
    if argv[0] == "eval":  # its two processes run the program's own command line again
        line = [sys.executable, "-m", "regionlm", *argv]
        return subprocess.run(line, check=True, capture_output=True, text=True).stdout
    assert main(argv) == 0
    return capsys.readouterr().out


def run_snippet(source: str, name: str, capsys) -> str:
    """Run a block of Python; what it printed."""
    exec(compile(source, name, "exec"), {})
    return capsys.readouterr().out


def links(text: str) -> list[str]:
    """Targets of all links and pictures but those that lead out of the repository."""
    return [one for one in _LINK.findall(_FENCE.sub("", text)) if not one.startswith("http")]


def anchors(text: str) -> set[str]:
    """Names of a page's headings on which GitHub and MkDocs agree: of dashes MkDocs keeps one."""
    headings = re.findall(r"^#+ +(.*?) *$", _FENCE.sub("", text), re.M)
    names = {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}
    return {name for name in names if "--" not in name}


def broken_links(path: str) -> list[str]:
    """The links of a page, by its path, that lead to no file or to no heading."""
    broken = []
    for link in links(page(path)):
        target, _, anchor = link.partition("#")
        file = (ROOT / path).parent / target if target else ROOT / path
        if file.exists() and (not anchor or anchor in anchors(file.read_text(encoding="utf-8"))):
            continue
        broken.append(link)
    return broken
