"""The tools at /mcp of a running service, for the official client."""

import base64
import io
import threading

import anyio
import numpy as np
import pytest
import uvicorn
from httpx2 import AsyncClient
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from PIL import Image

from regionlm.serve.app import create_app
from regionlm.serve.engine import Engine
from regionlm.serve.errors import QueueFullError
from regionlm.serve.limits import Limits
from regionlm.serve.running import listen
from regionlm.serve.settings import Settings
from tests.documents import ROOT
from tests.regionlm.tools.agent import look_for_the_fox, refused


@pytest.fixture
def service(mini):
    """Start a service on a free port of loopback; its address."""
    stopping = []

    def start(limits=None, **settings):
        engine, settings = Engine(mini, limits or Limits()), Settings(port=0, **settings)
        listening, begun = listen(settings), threading.Event()

        class Server(uvicorn.Server):
            async def startup(self, sockets=None):
                await super().startup(sockets)
                begun.set()

        server = Server(uvicorn.Config(create_app(engine, settings), log_config=None))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        stopping.append((server, thread, engine))
        assert begun.wait(60)
        return f"http://127.0.0.1:{listening.getsockname()[1]}/mcp"

    yield start
    for server, thread, engine in stopping:
        server.should_exit = True
        thread.join(60)
        engine.close(60)
        assert not thread.is_alive()


def talk(server, script, **options):
    async def run():
        async with Client(server, **options) as client:
            return await script(client)

    return anyio.run(run)


def uri(data, kind="png"):
    return f"data:image/{kind};base64," + base64.b64encode(data).decode()


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_an_agent_over_http(service, mode):
    image = uri((ROOT / "examples/sand.png").read_bytes())
    talk(service(), lambda client: look_for_the_fox(client, image), mode=mode)


def test_an_image_of_nine_megabytes_passes(service):
    pixels = np.random.default_rng(0).integers(0, 256, (1500, 2000, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "BMP")
    assert len(file.getvalue()) > 9_000_000
    arguments = {"image": uri(file.getvalue(), "bmp"), "regions": [{"box": [0, 0, 900, 900]}]}

    async def script(client):
        return await client.call_tool("caption_regions", arguments)

    answer = talk(service(), script)
    assert not answer.is_error and answer.structured_content["width"] == 2000


def test_no_file_of_the_machine_is_read(service, monkeypatch):
    monkeypatch.chdir(ROOT)

    async def script(client):
        for path in ("examples/sand.png", str(ROOT / "examples/sand.png"), "/etc/passwd"):
            said = await refused(client, "show_region", {"image": path})
            assert "files are not read here" in said
            region = {"mask": path}
            image = uri((ROOT / "examples/sand.png").read_bytes())
            arguments = {"image": image, "regions": [region]}
            assert "files are not read here" in await refused(client, "show_region", arguments)

    talk(service(), script)


def test_the_limits_of_the_service_hold(service):
    async def script(client):
        image = uri((ROOT / "examples/sand.png").read_bytes())
        box = {"box": [0, 0, 9, 9]}
        arguments = {"image": image, "regions": [box] * 3}
        said = await refused(client, "caption_regions", arguments)
        assert said.startswith("regions: expected at most 2 of an image of 320 x 320 pixels")
        file = io.BytesIO()
        Image.new("RGB", (400, 400)).save(file, "PNG")
        said = await refused(client, "show_region", {"image": uri(file.getvalue())})
        assert "is too large: expected at most 0.11 million pixels" in said

    talk(service(Limits(max_regions=2, max_pixels=110_000)), script)


def test_what_the_engine_refuses_is_said(service, monkeypatch):
    def full(*_):
        raise QueueFullError("9 questions wait already; try again in 3 s", retry_after=3)

    monkeypatch.setattr(Engine, "submit", full)

    async def script(client):
        image = uri((ROOT / "examples/sand.png").read_bytes())
        return await refused(client, "find_region", {"image": image, "text": "a fox"})

    assert talk(service(), script) == "9 questions wait already; try again in 3 s"


def post(url, **headers):
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    accept = {"Accept": "application/json, text/event-stream"}

    async def run():
        async with AsyncClient() as client:
            return await client.post(url, json=message, headers={**accept, **headers})

    return anyio.run(run)


def test_pages_under_another_name_do_not_reach_loopback(service):
    url = service(cors_origins=["https://example.org"])
    assert post(url).status_code == 200
    assert post(url, Host="localhost").status_code == 200
    assert post(url, Origin="https://example.org").status_code == 200
    assert post(url, Host="evil.example:8000").status_code == 421
    assert post(url, Origin="https://evil.example").status_code == 403


def test_tokens_are_needed(service, tmp_path):
    (tmp_path / "tokens").write_text("a-token-that-is-long-enough\n")
    url = service(tokens=str(tmp_path / "tokens"))
    assert post(url).status_code == 401
    token = {"Authorization": "Bearer a-token-that-is-long-enough"}
    assert post(url, **token).status_code == 200

    async def script(client):
        return len((await client.list_tools()).tools)

    async def run():
        async with (
            AsyncClient(headers=token) as http,
            Client(streamable_http_client(url, http_client=http)) as client,
        ):
            return await script(client)

    assert anyio.run(run) == 5


def test_a_stream_that_would_hold_up_stopping_is_refused(service):
    url = service()

    async def run():
        async with AsyncClient() as client:
            return await client.get(url, headers={"Accept": "text/event-stream"})

    assert anyio.run(run).status_code == 405


def test_an_app_that_starts_twice(engine):
    app = create_app(engine)

    async def start():
        async with app.router.lifespan_context(app):
            pass

    anyio.run(start)
    anyio.run(start)
