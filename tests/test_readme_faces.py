"""README's three commands show three faces: a web page, an answer over HTTP, a tool for agents."""

import json
import shlex
import shutil
import subprocess
import sys
import urllib.request

import anyio
import pytest
from mcp import Client, StdioServerParameters, stdio_client

from tests.documents import ROOT, blocks, page
from tests.regionlm.serve.services import running_service
from tests.regionlm.tools.agent import look_for_the_fox

README = page("README.md")
(COMMANDS,) = [
    [line.split("  #")[0] for line in block.splitlines()]
    for block in blocks(README[README.index("## Serve") :], "bash")[:1]
]
SERVE, CURL, AGENT = COMMANDS


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
def test_a_page_and_an_answer(in_checkout):
    words = shlex.split(SERVE.partition("&& ")[2])
    assert words[:2] == ["regionlm", "serve"]
    with running_service(*words[2:]) as service:
        with urllib.request.urlopen(service.url) as answer:
            assert "<title>regionlm" in answer.read().decode()
        curl = shlex.split(CURL.replace("http://127.0.0.1:8000", service.url))
        said = subprocess.run([*curl, "-s"], check=True, capture_output=True, text=True).stdout
        (region,) = json.loads(said)["regions"]
        assert region["caption"] == "a fox on the sand"


def test_a_tool_for_agents():
    words = shlex.split(AGENT.partition(" -- ")[2])
    assert words[0] == "regionlm"
    parameters = StdioServerParameters(command=sys.executable, args=["-m", *words], cwd=str(ROOT))

    async def run():
        async with Client(stdio_client(parameters)) as client:
            await look_for_the_fox(client, "examples/sand.png")

    anyio.run(run)
