"""The tools at /mcp of a running service, for the official client."""

import base64
import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import anyio
import numpy as np
import pytest
import uvicorn
from httpx2 import AsyncClient
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from PIL import Image

from regionlm.errors import InputError
from regionlm.inputs.views import ImageView
from regionlm.serve import mcp_face, readers
from regionlm.serve.app import create_app
from regionlm.serve.engine import Engine
from regionlm.serve.errors import QueueFullError
from regionlm.serve.limits import Limits
from regionlm.serve.running import listen
from regionlm.serve.settings import Settings
from tests.documents import ROOT
from tests.regionlm.serve.pictures import picture, png
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

        config = uvicorn.Config(create_app(engine, settings), log_config=None, ws="none")
        server = Server(config)
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


def test_a_body_beyond_the_limit_is_refused_in_words_that_reach_the_agent(service):
    async def script(client):
        with pytest.raises(MCPError, match="may have at most 1 MiB; send less"):
            await client.call_tool("show_region", {"image": uri(bytes(2**20))})

    talk(service(Limits(max_body_mib=1)), script)


def test_what_the_engine_refuses_is_said(service, monkeypatch):
    def full(*_):
        raise QueueFullError("9 questions wait already; try again in 3 s", retry_after=3)

    monkeypatch.setattr(Engine, "submit", full)

    async def script(client):
        image = uri((ROOT / "examples/sand.png").read_bytes())
        return await refused(client, "find_region", {"image": image, "text": "a fox"})

    assert talk(service(), script) == "9 questions wait already; try again in 3 s"


def small(seed):
    """A small image of noise, as a data: URI."""
    return uri(png(picture(seed)))


def in_process(engine, script):
    """Let an agent talk to the tools of an engine, without HTTP."""
    return talk(mcp_face.tools_server(engine), script)


async def together(client, name, arguments):
    """The answers to several calls at once."""
    found = {}

    async def one(number, given):
        found[number] = await client.call_tool(name, given)

    async with anyio.create_task_group() as tasks:
        for number, given in enumerate(arguments):
            tasks.start_soon(one, number, given)
    return [found[number] for number in range(len(arguments))]


class SlowToOpen(Engine):
    """Takes its time to open images, and knows how many it had open at once."""

    now = most = 0
    lock = threading.Lock()

    def view(self, data, name="image"):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.2)
        with self.lock:
            self.now -= 1
        return super().view(data, name)


def test_agents_have_no_more_images_read_at_once_than_others(mini):
    engine = SlowToOpen(mini)
    asked = [{"image": small(seed)} for seed in range(12)]
    answers = in_process(engine, lambda client: together(client, "show_region", asked))
    assert not any(one.is_error for one in answers)
    assert 1 < engine.most <= readers.AT_ONCE


def test_calls_that_wait_for_the_model_do_not_keep_others_from_reading(mini, monkeypatch):
    engine, go_on, submitted = Engine(mini), threading.Event(), []
    submit, work = engine.submit, engine._work
    monkeypatch.setattr(engine, "submit", lambda one: submitted.append(one) or submit(one))
    monkeypatch.setattr(engine, "_work", lambda group: go_on.wait(60) and work(group))

    async def script(client):
        asked = [{"image": small(seed), "text": "a fox"} for seed in range(2 * readers.AT_ONCE)]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(together, client, "find_region", asked)
            try:
                with anyio.fail_after(40):
                    while len(submitted) < len(asked):
                        await anyio.sleep(0.01)
                    return await client.call_tool("show_region", {"image": small(99)})
            finally:
                go_on.set()

    assert not in_process(engine, script).is_error
    engine.close(60)


def test_a_call_that_is_too_late_is_not_read(mini):
    engine, may_end = Engine(mini, Limits(timeout=0.2)), threading.Event()
    all_begun = threading.Barrier(readers.AT_ONCE + 1)

    def keep_turn():
        all_begun.wait(60)
        may_end.wait()

    with ThreadPoolExecutor(readers.AT_ONCE) as threads:
        for _ in range(readers.AT_ONCE):
            threads.submit(readers.in_turn, keep_turn)
        all_begun.wait(60)
        try:
            said = in_process(engine, lambda c: refused(c, "show_region", {"image": small(1)}))
        finally:
            may_end.set()
    assert said.startswith("no answer in time") and engine.views.misses == 0


class SlowImages(Engine):
    """Takes a second to open an image, and tells how long its questions could wait then."""

    left = None

    def view(self, data, name="image"):
        time.sleep(1)
        return super().view(data, name)

    def submit(self, question):
        self.left = question.seconds_left()
        return super().submit(question)


def test_the_time_of_a_call_counts_from_its_beginning(mini):
    engine = SlowImages(mini, Limits(timeout=60))
    asked = {"image": small(1), "text": "a fox"}
    answer = in_process(engine, lambda client: client.call_tool("find_region", asked))
    assert not answer.is_error and 0 < engine.left < 59
    engine.close(60)


def test_images_are_kept_by_the_engine_alone(mini):
    one = ImageView(picture(0)).nbytes
    engine = Engine(mini, Limits(cache_mib=3.5 * one / 2**20))

    async def script(client):
        async def show(image):
            return await client.call_tool("show_region", {"image": image})

        ids = [(await show(small(seed))).structured_content["image"] for seed in range(3)]
        assert not (await show(ids[0])).is_error  # is used now, so that 1 is the oldest
        await show(small(3))
        said = await refused(client, "show_region", {"image": ids[1]})
        assert "no earlier image or mask is remembered by this id" in said
        assert not (await show(ids[0])).is_error and not (await show(ids[2])).is_error
        bmp = io.BytesIO()
        picture(0).save(bmp, "BMP")  # the same pixels have the same id
        again = await show(uri(bmp.getvalue(), "bmp"))
        assert again.structured_content["image"] == ids[0]

    in_process(engine, script)
    assert engine.views.nbytes <= 3.5 * one
    engine.close()


def test_masks_of_agents_have_a_quarter_of_the_memory(mini):
    engine = Engine(mini, Limits(cache_mib=2))
    space = mcp_face.workspace(engine)
    masks = [np.zeros((400, 400), bool) for _ in range(9)]
    for number, mask in enumerate(masks):
        mask[number] = True
    ids = [space.keep_mask(mask) for mask in masks]
    for name in ids[:-3]:  # three of 160 kB fit half a MiB
        with pytest.raises(InputError, match="no earlier image or mask is remembered by this id"):
            space.masks(name, (400, 400))
    assert all(space.masks(name, (400, 400)) for name in ids[-3:])


def test_points_are_limited(service):
    async def script(client):
        region = {"points": [[9, 9]] * 3}
        arguments = {"image": small(1), "regions": [region]}
        return await refused(client, "show_region", arguments)

    said = talk(service(Limits(max_points=2)), script)
    assert said == "points: expected at most 2 of a region, found 3; ask several times"


def post(url, **headers):
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    accept = {"Accept": "application/json, text/event-stream"}

    async def run():
        async with AsyncClient(timeout=60) as client:
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
            AsyncClient(headers=token, timeout=60) as http,
            Client(streamable_http_client(url, http_client=http)) as client,
        ):
            return await script(client)

    assert anyio.run(run) == 5


def test_a_stream_that_would_hold_up_stopping_is_refused(service):
    url = service()

    async def run():
        async with AsyncClient(timeout=60) as client:
            return await client.get(url, headers={"Accept": "text/event-stream"})

    assert anyio.run(run).status_code == 405


def test_an_app_that_starts_twice(engine):
    app = create_app(engine)

    async def start():
        async with app.router.lifespan_context(app):
            pass

    anyio.run(start)
    anyio.run(start)
