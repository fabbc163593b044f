"""What docs/agents.md tells people to configure is accepted, and its loop is an agent."""

import json
import shlex

import pytest

from regionlm.cli.main import main
from tests.documents import blocks, page, run_snippet
from tests.scripted_model import ScriptedModel

PAGE = page("docs/agents.md")


def configured():
    """The commands that configurations name, as lists of words."""
    for block in blocks(PAGE, "json"):
        (servers,) = json.loads(block).values()
        yield from ([one["command"], *one["args"]] for one in servers.values() if "args" in one)
    for line in "".join(blocks(PAGE, "text")).splitlines():
        if " -- " in line:
            yield shlex.split(line.split(" -- ")[1])


def test_there_are_configurations():
    assert len(list(configured())) == 3


@pytest.mark.parametrize("command", list(configured()), ids=" ".join)
def test_commands_of_configurations(command, capsys):
    assert command[:2] == ["regionlm", "mcp"]
    with pytest.raises(SystemExit) as ended:
        main([*command[1:], "--print_config"])
    assert ended.value.code == 0


def test_the_loop_calls_tools_until_it_knows(in_checkout, capsys, monkeypatch):
    monkeypatch.setattr("openai.OpenAI", ScriptedModel)
    said = run_snippet(blocks(PAGE, "python")[0], "agents.md", capsys)
    assert said.splitlines()[1].startswith("a fox: ")  # the first in the ranking
