"""The tools over MCP, in this process and as a process of their own."""

import base64
import json
import logging
import signal
import subprocess
import sys
import threading

import anyio
import pytest
from mcp import Client, StdioServerParameters, stdio_client

from regionlm import RegionEncoder
from regionlm.auto import load_captioner
from regionlm.backbones.trunk_options import TrunkOptions
from regionlm.tools import Workspace, call, schemas
from regionlm.tools.mcp_server import make_server
from tests.documents import ROOT
from tests.regionlm.tools.agent import look_for_the_fox, refused


def serving(captioner, workspace):
    return make_server(lambda: captioner, workspace)


def talk(server, script, **options):
    async def run():
        async with Client(server, **options) as client:
            return await script(client)

    return anyio.run(run)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_an_agent_in_this_process(mini, workspace, mode):
    server = serving(mini, workspace)
    talk(server, lambda client: look_for_the_fox(client, "sand.png"), mode=mode)


def test_an_image_as_a_data_uri(mini, workspace, root):
    uri = "data:image/png;base64," + base64.b64encode((root / "sand.png").read_bytes()).decode()
    talk(serving(mini, workspace), lambda client: look_for_the_fox(client, uri))


def test_what_is_listed_is_what_regionlm_tools_prints(mini, workspace):
    async def script(client):
        return (await client.list_tools()).tools

    listed = talk(serving(mini, workspace), script)
    written = [json.loads(one.model_dump_json(by_alias=True, exclude_none=True)) for one in listed]
    assert written == schemas("mcp")


def test_only_what_the_model_can_do_is_listed(workspace):
    async def script(client):
        return [tool.name for tool in (await client.list_tools()).tools]

    encoder = RegionEncoder.from_pretrained("mini-siglip", device="cpu")
    names = ["match_region", "find_region", "show_region"]
    assert talk(serving(encoder, workspace), script) == names


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("caption", {}, "caption: no such tool"),
        ("show_region", {}, "image: show_region needs it"),
        ("show_region", {"image": 3}, "image: expected a path"),
        ("show_region", {"image": "../secret.png"}, "'../secret.png' is not a path in the folder"),
        ("show_region", {"image": "/etc/passwd"}, "'/etc/passwd' is not a path in the folder"),
        ("show_region", {"image": "sand.png\0"}, r"'sand.png\x00' is not a path in the folder"),
        ("show_region", {"image": "out.png"}, "'out.png' is not a path in the folder"),
        ("show_region", {"image": "out/secret.png"}, "'out/secret.png' is not a path"),
        ("show_region", {"image": "http://localhost/a.png"}, "'http://localhost/a.png' is an addr"),
        ("find_region", {"image": "sand.png", "text": "a zzyzx qqfox"}, ""),
    ],
)
def test_mistakes_reach_the_agent_in_one_line(mini, workspace, root, name, arguments, message):
    (root.parent / "secret.png").write_bytes((root / "sand.png").read_bytes())
    (root / "out.png").symlink_to(root.parent / "secret.png")
    (root / "out").symlink_to(root.parent)
    said = talk(serving(mini, workspace), lambda client: refused(client, name, arguments))
    assert said.startswith(message) and str(root.parent) not in said


def test_a_fault_of_ours_is_logged_and_not_shown(mini, workspace, caplog):
    class Broken:
        def explain(self, *_, **__):
            raise RuntimeError("secret inside")

    arguments = {"image": "sand.png", "text": "a fox"}
    with caplog.at_level(logging.ERROR):
        said = talk(
            serving(Broken(), workspace),
            lambda client: refused(client, "find_region", arguments),
        )
    assert said == "find_region failed: a fault of the server, whose log says more"
    assert "secret inside" in caplog.text


def test_a_call_that_takes_long_holds_up_nothing_else(workspace):
    begun, go_on = threading.Event(), threading.Event()

    class Slow:
        def explain(self, *_, **__):
            begun.set()
            assert go_on.wait(60)
            raise ValueError("enough")

    async def script(client):
        arguments = {"image": "sand.png", "text": "a fox"}
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(refused, client, "find_region", arguments)
            await anyio.to_thread.run_sync(begun.wait, 60)
            assert len((await client.list_tools()).tools) == 2  # answered while it runs
            go_on.set()

    talk(serving(Slow(), workspace), script)


def test_an_agent_that_starts_us(root, tmp_path):
    log = tmp_path / "stderr"
    parameters = StdioServerParameters(
        command=sys.executable,
        args=["-m", "regionlm", "mcp", "--root", str(root), "--device", "cpu", "--regions", "3"],
        env={"PYTHONPATH": str(ROOT)},
        cwd=str(tmp_path),
    )

    async def script(client):
        await look_for_the_fox(client, "sand.png")
        await look_for_the_fox(client, str(root / "sand.png"))
        boxes = {"regions": [{"box": [0, 0, 9, 9]}] * 4}
        said = await refused(client, "caption_regions", {"image": "sand.png", **boxes})
        assert said.startswith("regions: expected at most 3 of an image of 320 x 320")
        large = "data:image/bmp;base64," + base64.b64encode(b"x" * 9_000_000).decode()
        said = await refused(client, "show_region", {"image": large})
        assert said.startswith("image data: URI can't be read as an image")

    with log.open("w") as errors:
        talk(stdio_client(parameters, errlog=errors), script)
    assert log.read_text() == ""


@pytest.mark.long
@pytest.mark.parametrize(
    ("end", "code"),
    [
        (lambda process: process.stdin.close(), 0),
        (lambda process: process.send_signal(signal.SIGINT), 130),
    ],
    ids=["end of input", "Ctrl-C"],
)
def test_nothing_but_the_protocol_is_on_stdout_until_the_end(root, end, code):
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}}
    hello["clientInfo"] = {"name": "test", "version": "1"}
    call = {"name": "find_region", "arguments": {"image": "sand.png", "text": "a fox"}}
    messages = [
        {"id": 1, "method": "initialize", "params": hello},
        {"method": "notifications/initialized"},
        {"id": 2, "method": "tools/list"},
        {"id": 3, "method": "tools/call", "params": call},
    ]
    command = [sys.executable, "-m", "regionlm", "mcp", "--root", str(root), "--device", "cpu"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, text=True, cwd=ROOT, **pipes)
    for message in messages:
        process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    process.stdin.flush()
    answers = [json.loads(process.stdout.readline()) for _ in range(3)]
    end(process)
    assert process.wait(60) == code
    assert process.stdout.read() == process.stderr.read() == ""
    assert {one["id"] for one in answers} == {1, 2, 3}
    assert all("result" in one for one in answers)


def test_a_client_is_greeted_before_the_model_is_loaded(mini, workspace):
    go_on = threading.Event()

    def load():
        assert go_on.wait(60)
        return mini

    async def script(client):
        assert client.server_info.name == "regionlm"
        go_on.set()
        assert len((await client.list_tools()).tools) == 5

    talk(make_server(load, workspace), script)


@pytest.mark.long
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "no-such-model"], "unknown model"),
        (["--device", "cpu", "--precision", "float16"], "--precision: expected float32"),
    ],
)
def test_a_model_that_can_not_be_used_ends_it(options, message):
    command = [sys.executable, "-m", "regionlm", "mcp", *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as one:
        assert one.wait(120) == 2  # though its input is open
        said = one.stderr.read()
    assert said.startswith(f"regionlm: error: {message}") and said.count("\n") == 1


@pytest.mark.long
def test_its_trunk_is_computed_as_asked_for(mini, root):
    asked = {"image": "sand.png", "regions": [{"box": [80, 150, 140, 240]}]}
    options = ["--root", str(root), "--device", "cpu", "--precision", "bfloat16"]
    parameters = StdioServerParameters(
        command=sys.executable,
        args=["-m", "regionlm", "mcp", *options],
        env={"PYTHONPATH": str(ROOT)},
    )

    async def script(client):
        return (await client.call_tool("caption_regions", asked)).structured_content

    found = talk(stdio_client(parameters), script)["regions"][0]["logprob"]
    half = load_captioner("mini", trunk=TrunkOptions(precision="bfloat16"), device="cpu")
    wanted, usual = (
        call("caption_regions", asked, captioner=one, workspace=Workspace(root))
        for one in (half, mini)
    )
    assert found == pytest.approx(wanted.structured["regions"][0]["logprob"], abs=1e-5)
    assert found != pytest.approx(usual.structured["regions"][0]["logprob"], abs=1e-5)
