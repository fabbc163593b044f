"""`regionlm tools` and `regionlm mcp`."""

import json
import subprocess
import sys

import pytest

from regionlm.cli.main import main
from regionlm.tools import TOOLS, schemas


@pytest.mark.parametrize("form", ["openai", "anthropic", "mcp", "json-schema"])
def test_tools_are_printed(form, capsys):
    assert main(["tools", "--format", form]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == schemas(form) and len(printed) == len(TOOLS)


def test_the_default_is_openai(capsys):
    assert main(["tools"]) == 0
    assert json.loads(capsys.readouterr().out) == schemas("openai")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mcp", "--root", "no-such-folder"], "root: expected a folder, found 'no-such-folder'"),
        (["mcp", "--pixels", "0"], "pixels: expected an integer >= 1, found 0"),
        (["tools", "--format", "xml"], "--format: expected"),
    ],
)
def test_mistakes(arguments, message, capsys):
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert message in said.err and said.err.count("\n") == 1 and said.out == ""


def test_tools_are_printed_without_torch_and_mcp():
    source = (
        "import sys; from regionlm.cli.main import main; main(['tools'])\n"
        "assert not {'torch', 'mcp', 'pydantic'} & set(sys.modules), 'too much is imported'"
    )
    subprocess.run([sys.executable, "-c", source], check=True, stdout=subprocess.DEVNULL)
