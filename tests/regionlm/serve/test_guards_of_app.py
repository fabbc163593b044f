"""What stands between the service and the network, in front of the whole app."""

import asyncio
import io
import json
import threading
import time

import httpx
import pytest
from fastapi.testclient import TestClient

from regionlm.serve.app import create_app
from regionlm.serve.engine import Engine
from regionlm.serve.limits import Limits
from regionlm.serve.net.fetching import UrlFetcher
from regionlm.serve.net.log_lines import LogLines
from regionlm.serve.settings import Settings
from tests.regionlm.serve.net.image_host import NAME, PUBLIC
from tests.regionlm.serve.openai.chats import LEFT, asking, box_mask, cut_out
from tests.regionlm.serve.openai.conftest import serving
from tests.regionlm.serve.pictures import encoded, picture

CHAT, CAPTION = "/v1/chat/completions", "/v1/caption"
SECRET = "f00d-secret"
CUT_OUT = cut_out(picture(1), box_mask(picture(1), LEFT))


@pytest.fixture
def guarded(engine):
    """Call it with settings for a client, and what gives the log's lines at the end."""
    opened = []

    def make(**settings):
        stream = io.BytesIO()
        log = LogLines(stream)
        app = create_app(engine, Settings(**settings), log=log)
        client = TestClient(app, raise_server_exceptions=False)
        opened.append((client.__enter__(), log))
        return client, lambda: (log.close(), stream.getvalue().decode())[1]

    yield make
    for client, log in opened:
        client.__exit__(None, None, None)
        log.close()


def body_of(path, url):
    if path == CAPTION:
        return {"image": url, "regions": [{"box": [0, 0, 9, 9]}]}
    content = [{"type": "image_url", "image_url": {"url": url}}]
    return {"model": "mini", "messages": [{"role": "user", "content": content}]}


@pytest.mark.parametrize("path", [CAPTION, CHAT])
@pytest.mark.parametrize(
    "url",
    [
        *("http://127.0.0.1:9/a.png", "http://localhost/", "http://[::1]/", "http://2130706433/"),
        *("http://0177.0.0.1/", "http://[::ffff:7f00:1]/", "http://169.254.169.254/latest"),
        *("file:///etc/passwd", "https://other.example.org/", "HTTP://user@localhost/", "http://"),
    ],
)
def test_no_address_leads_inside(guarded, path, url):
    for settings in ({}, {"allow_url_hosts": ["localhost", "127.0.0.1:9", "2130706433"]}):
        client, _ = guarded(**settings)
        reply = client.post(path, json=body_of(path, url))
        assert reply.status_code == 422 and reply.json()["error"]["message"]


PAGE = "https://page.example.org"


@pytest.mark.parametrize("host", ["127.0.0.1", "LOCALHOST", "::1", "127.9.9.9"])
def test_pages_under_another_name_do_not_reach_loopback(engine, host):
    app = create_app(engine, Settings(host=host, cors_origins=[PAGE]))
    client = TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False)
    for path in ("/", "/v1/models", "/metrics", "/docs", "/mcp", "/page/main.js"):
        for name in ("evil.test:8000", "evil.test", "localhost.evil.test", "127.0.0.1.nip.io", "["):
            reply = client.get(path, headers={"Host": name})
            assert reply.status_code == 421 and "localhost" in reply.json()["error"]["message"]
        for origin in ("https://evil.test", "null", "http://localhost.evil.test"):
            assert client.get(path, headers={"Origin": origin}).status_code == 403
    for name in ("localhost:8000", "LocalHost", "127.0.0.1:8000", "[::1]:8000"):
        reply = client.get("/v1/models", headers={"Host": name, "Origin": f"http://{name}"})
        assert reply.status_code == 200
    assert client.get("/v1/models", headers={"Origin": PAGE}).status_code == 200
    assert client.get("/health", headers={"Host": "10.0.0.1"}).status_code == 200


@pytest.mark.parametrize(
    ("settings", "address"),
    [
        ({"host": "0.0.0.0"}, "127.0.0.1"),  # a proxy, or a port that is passed on
        ({"cors_origins": ["*"]}, "127.0.0.1"),
        ({}, "10.0.0.5"),  # a replica of a cluster
    ],
)
def test_a_service_for_others_may_be_asked_under_any_name(engine, settings, address):
    client = TestClient(create_app(engine, Settings(**settings)), base_url=f"http://{address}:8000")
    headers = {"Host": "captions.example.org", "Origin": "https://captions.example.org"}
    assert client.get("/v1/models", headers=headers).status_code == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", None])
@pytest.mark.parametrize("path", [CAPTION, CHAT, "/mcp", "/v1/segment"])
def test_bodies_that_any_page_may_send_are_refused(guarded, path, kind):
    client, _ = guarded()
    headers = {"Content-Type": kind} if kind else {}
    reply = client.post(path, content=b"{}", headers=headers)
    assert reply.status_code == 415
    assert "-H 'Content-Type: application/json'" in reply.json()["error"]["message"]


@pytest.mark.parametrize("path", [CAPTION, CHAT])
def test_a_named_host_that_points_inside_is_refused(guarded, path):
    client, _ = guarded(allow_url_hosts=[NAME])

    async def resolve(host, port):
        return ["127.0.0.1"]

    client.app.state.fetcher = UrlFetcher([NAME], most_bytes=1000, resolve=resolve)
    reply = client.post(path, json=body_of(path, f"http://{NAME}/a.png"))
    assert reply.status_code == 422
    assert "not on the public internet" in reply.json()["error"]["message"]
    assert "127.0.0.1" not in reply.text and PUBLIC not in reply.text


@pytest.mark.parametrize(
    "path", [CAPTION, CHAT, "/v1/models", "/metrics", "/docs", "/mcp", "/none"]
)
def test_without_a_token_nothing_is_answered(guarded, tmp_path, path):
    file = tmp_path / "tokens"
    file.write_text(SECRET)
    client, _ = guarded(tokens=str(file))
    for method in ("GET", "POST"):
        reply = client.request(method, path, headers={"Authorization": "Bearer wrong"})
        assert reply.status_code == 401 and reply.headers["X-Request-ID"]
    assert client.get(path, headers={"Authorization": f"Bearer {SECRET}"}).status_code != 401
    assert client.get("/health").status_code == 200


def test_the_log_has_a_line_for_each_request_and_nothing_of_what_was_sent(guarded, tmp_path):
    file = tmp_path / "tokens"
    file.write_text(SECRET)
    client, written = guarded(tokens=str(file))
    token = {"Authorization": f"Bearer {SECRET}", "X-Request-ID": "mine"}
    image = encoded(picture(1))
    client.post(f"{CAPTION}?key={SECRET}", json=body_of(CAPTION, image), headers=token)
    chat = {"model": "mini", "messages": asking(CUT_OUT, text=SECRET), "stream": True}
    client.post(CHAT, json=chat, headers=token)
    client.post(CHAT, content=b"{", headers={**token, "Content-Type": "application/json"})
    client.get("/v1/models")
    text = written()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["status"] for line in lines] == [200, 200, 400, 401]
    assert {line["id"] for line in lines[:3]} == {"mine"}
    assert SECRET not in text and image[:40] not in text


@pytest.mark.parametrize("path", [CAPTION, CHAT])
def test_a_deadline_that_passes_while_an_image_is_fetched_is_504(mini, path):
    async def never(*_):
        await asyncio.sleep(60)

    engine = Engine(mini, Limits(timeout=0.3))
    with TestClient(create_app(engine)) as client:
        client.app.state.fetcher = UrlFetcher([NAME], most_bytes=1000, resolve=never)
        reply = client.post(path, json=body_of(path, f"http://{NAME}/a.png"))
    assert reply.status_code == 504 and reply.json()["error"]["code"] == "timeout"
    engine.close()


def test_fetching_is_bound_to_its_request_and_its_client(engine):
    """Native requests; those of chats: see openai/test_chat.py."""
    app, begun, ended = create_app(engine), threading.Event(), threading.Event()

    class Slow:
        async def fetch(self, url, *, deadline):
            assert 0 < deadline - time.monotonic() < engine.limits.timeout
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

    app.state.fetcher = Slow()

    async def leave(address, path):
        async with httpx.AsyncClient(timeout=60) as client:
            asked = asyncio.create_task(
                client.post(address + path, json=body_of(path, "https://images.example.org/"))
            )
            assert await asyncio.to_thread(begun.wait, 60)
            asked.cancel()
            await asyncio.wait([asked])

    with serving(app) as address:
        asyncio.run(leave(address, CAPTION))
        assert ended.wait(60)
