"""Chat requests that OpenAI's client would not send, and what goes wrong on the way."""

import asyncio
import json
import threading
import time

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient

from prefix_models.llava import LlavaReader
from regionlm.llava_captioner import LlavaCaptioner
from regionlm.serve.app import create_app
from regionlm.serve.engine import Engine
from regionlm.serve.errors import QueueFullError, TooLateError
from regionlm.serve.net.fetching import UrlFetcher
from regionlm.serve.net.urls import UrlError
from regionlm.serve.openai.asking import read_chat
from regionlm.serve.question import Piece
from tests.regionlm.serve.net.image_host import NAME, ImageHost, says
from tests.regionlm.serve.openai.chats import LEFT, asking, box_mask, cut_out
from tests.regionlm.serve.openai.conftest import serving
from tests.regionlm.serve.pictures import picture, png
from tests.tiny_llava import tiny_llava

PATH = "/v1/chat/completions"
JSON = {"Content-Type": "application/json"}
CUT_OUT = cut_out(picture(1), box_mask(picture(1), LEFT))


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b'{"model": NaN', b"[" * 100_000, b'"\\ud800" x']
)
def test_what_is_not_json_is_malformed(client, body):
    reply = client.post(PATH, content=body, headers=JSON)
    assert reply.status_code == 400 and reply.json()["error"]["code"] == "malformed"


@pytest.mark.parametrize(
    "body",
    [
        *([], 3, None, {}, {"model": "mini"}, {"model": "mini", "messages": []}),
        {"model": "mini", "messages": [{"role": "tool", "content": "x"}]},
        {"model": "mini", "messages": [{"role": "user", "content": "no image"}]},
        {"model": "mini", "messages": asking(CUT_OUT), "temperature": float("nan")},
        {"model": "mini", "messages": asking(CUT_OUT), "temperature": float("inf")},
        {"model": "mini", "messages": asking(CUT_OUT), "\ud800": 1},
    ],
)
def test_other_json_is_refused(client, body):
    reply = client.post(PATH, content=json.dumps(body), headers=JSON)
    error = reply.json()["error"]
    assert reply.status_code == 422 and error["type"] == "invalid_request_error"
    assert error["message"] and "\n" not in error["message"]


def test_the_next_request_is_fine(client):
    client.post(PATH, content=b"{", headers=JSON)
    assert client.post(PATH, json={"model": "mini", "messages": asking(CUT_OUT)}).status_code == 200


class BrokenEngine(Engine):
    """Fails in the midst of an answer."""

    error: Exception

    async def stream(self, question):
        yield Piece(0, "image 1", "a ")
        raise self.error

    async def ask(self, question):
        raise self.error


@pytest.mark.parametrize(
    "error, message, kind",
    [
        (TooLateError("no answer within 1 s"), "no answer within 1 s", "timeout_error"),
        (RuntimeError("secret of /etc"), None, "server_error"),
    ],
)
def test_an_error_in_the_midst_of_a_stream_is_its_last_event(mini, error, message, kind):
    engine = BrokenEngine(mini)
    engine.error = error
    body = {"model": "mini", "messages": asking(CUT_OUT)}
    with TestClient(create_app(engine)) as client:
        events = client.post(PATH, json={**body, "stream": True}).text.split("\n\n")
        whole = client.post(PATH, json=body)
    told = json.loads(events[-2].removeprefix("data: "))["error"]
    assert told["type"] == kind and "secret" not in str(events)
    assert message is None or told["message"] == message
    assert whole.json()["error"]["type"] == kind and "secret" not in whole.text
    engine.close()


class Fetcher(UrlFetcher):
    """Knows one address."""

    def __init__(self):
        super().__init__(["images.example.org"], most_bytes=10**6)

    async def fetch(self, url, **bounds):
        if url != "https://images.example.org/a.png":
            raise UrlError("url: no")
        return png(CUT_OUT)


def read(engine, url, **more):
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "what?"}]
    body = {"model": engine.name, "messages": [{"role": "user", "content": content}], **more}
    deadline = time.monotonic() + 60
    return asyncio.run(read_chat(engine, Fetcher(), json.dumps(body).encode(), deadline))


def test_an_image_may_be_fetched(engine):
    (question,) = read(engine, "https://images.example.org/a.png").questions
    assert question.regions[0].mask.sum() == 15 * 30
    with pytest.raises(UrlError, match=r"messages\.0\.content\.0\.image_url: url: no"):
        read(engine, "HTTPS://other.example.org/a.png")


def fetched(engine, host, *paths, **options):
    """The questions of a chat about images of a host that runs as long."""

    async def run():
        async with host.running():
            content = [
                {"type": "image_url", "image_url": {"url": f"http://{NAME}/{path}"}}
                for path in paths
            ]
            body = {"model": "mini", "messages": [{"role": "user", "content": content}]}
            fetcher = host.fetcher(**options)
            deadline = time.monotonic() + 60
            chat = await read_chat(engine, fetcher, json.dumps(body).encode(), deadline)
            return chat.questions

    return asyncio.run(run())


def test_all_images_of_a_chat_together_are_bounded(engine):
    data = png(picture(1))
    host = ImageHost(says(200, data))
    assert fetched(engine, host, "a", "b", most_bytes=2 * len(data))
    for count in (1, 3):
        with pytest.raises(UrlError, match=r"content\.\d\.image_url: url: expected at most"):
            fetched(engine, host, *"abc"[:count], most_bytes=count * len(data) - 1)


def test_images_are_fetched_together_but_not_all_at_once_and_stay_in_order(engine):
    now, counts, enough = 0, [], asyncio.Event()

    async def reply(writer, asked):
        nonlocal now
        now += 1
        counts.append(now)
        if now == 4:
            enough.set()
        await asyncio.wait_for(enough.wait(), 60)
        number = int(asked.split()[1].strip("/"))
        await asyncio.sleep(0.02 * (10 - number))  # later ones are there first
        now -= 1
        await says(200, png(picture(number)))(writer, asked)

    found = fetched(engine, ImageHost(reply), *"0123456789", most_bytes=10**6)
    assert max(counts) == 4 and len(found) == 10
    for number, question in enumerate(found):
        assert np.array_equal(question.view.image, picture(number))


def test_if_one_image_is_not_there_the_others_are_not_waited_for(engine):
    async def reply(writer, asked):
        if "/bad" not in asked:
            await asyncio.sleep(60)
        await says(404)(writer, asked)

    began = time.monotonic()
    with pytest.raises(UrlError, match=r"content\.1\.image_url: url: .* answered 404"):
        fetched(engine, ImageHost(reply), "slow", "bad", "slow")
    assert time.monotonic() - began < 20  # which the fetcher would wait


def test_nothing_is_fetched_for_a_service_without_room(engine, monkeypatch):
    def full():
        raise QueueFullError("9 questions wait already; try again in 3 s", retry_after=3)

    monkeypatch.setattr(engine, "check_room", full)
    with pytest.raises(QueueFullError):
        read(engine, "https://images.example.org/none.png")


def test_a_llava_is_asked_the_text_and_mini_is_not(engine):
    url = "https://images.example.org/a.png"
    llava = Engine(LlavaCaptioner(LlavaReader(*tiny_llava())))
    assert read(llava, url).questions[0].options["prompt"] == "what?"
    assert "prompt" not in read(engine, url).questions[0].options


def test_a_llava_answers(mini):
    engine = Engine(LlavaCaptioner(LlavaReader(*tiny_llava())))
    chat = read(engine, "https://images.example.org/a.png", max_tokens=5)
    chat.questions[0].deadline = None
    answered = asyncio.run(chat.answer())
    assert answered.usage()["completion_tokens"] <= 5 and answered.finish() in ("stop", "length")
    engine.close()


class SilentEngine(Engine):
    """Says nothing."""

    asked = left = None

    async def stream(self, question):
        try:
            self.asked.set()
            await asyncio.Event().wait()
            yield Piece(0, "image 1", "never")
        finally:
            self.left.set()


def test_a_client_that_leaves_before_a_stream_begins_leaves_the_queue(mini):
    engine = SilentEngine(mini)
    engine.asked, engine.left = threading.Event(), threading.Event()
    body = {"model": "mini", "messages": asking(CUT_OUT), "stream": True}

    async def leave(address):
        async with httpx.AsyncClient(timeout=60) as client:
            asked = asyncio.create_task(client.post(address + PATH, json=body))
            assert await asyncio.to_thread(engine.asked.wait, 60)
            asked.cancel()
            await asyncio.wait([asked])

    with serving(create_app(engine)) as address:
        asyncio.run(leave(address))
        assert engine.left.wait(60)
    engine.close()


class EndlessEngine(Engine):
    """Writes until nobody listens."""

    left = None

    async def stream(self, question):
        try:
            while True:
                yield Piece(0, "image 1", "more ")
                await asyncio.sleep(0.01)
        finally:
            self.left.set()


def test_a_client_that_leaves_in_the_midst_of_a_stream_ends_the_work(mini):
    engine = EndlessEngine(mini)
    engine.left = threading.Event()
    body = {"model": "mini", "messages": asking(CUT_OUT), "stream": True}
    with serving(create_app(engine)) as address:
        with httpx.stream("POST", address + PATH, json=body, timeout=60) as reply:
            assert any("more " in line for line in reply.iter_lines())
        assert engine.left.wait(60)
    engine.close()
