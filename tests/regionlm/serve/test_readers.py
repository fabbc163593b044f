"""Few threads read at once, and nothing is read that nobody waits for."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi.testclient import TestClient

from regionlm.serve import asked, readers, replies
from regionlm.serve.app import create_app
from regionlm.serve.engine import Engine
from regionlm.serve.errors import TooLateError
from regionlm.serve.limits import Limits
from regionlm.serve.openai import asking
from tests.regionlm.serve.openai.chats import asking as messages
from tests.regionlm.serve.pictures import encoded, picture

BOX = {"box": [0, 0, 9, 9]}


class Counted:
    """Work that waits until it may end, and knows how much of it was done at once."""

    def __init__(self):
        self.now = self.most = self.begun = 0
        self.may_end, self._lock = threading.Event(), threading.Lock()

    def __call__(self):
        with self._lock:
            self.now += 1
            self.begun += 1
            self.most = max(self.most, self.now)
        assert self.may_end.wait(60)
        with self._lock:
            self.now -= 1

    def wait_for(self, begun):
        latest = time.monotonic() + 60
        while self.begun < begun:
            assert time.monotonic() < latest
            time.sleep(0.005)


@pytest.fixture
def busy():
    """All turns are taken until the test lets go."""
    work = Counted()
    with ThreadPoolExecutor(readers.AT_ONCE) as threads:
        for _ in range(readers.AT_ONCE):
            threads.submit(readers.in_turn, work)
        work.wait_for(readers.AT_ONCE)
        yield work
        work.may_end.set()


def test_no_more_threads_read_at_once_whichever_way_they_come():
    work = Counted()

    async def run():
        mine = [asyncio.create_task(readers.off_loop(work)) for _ in range(6)]
        others = [asyncio.create_task(asyncio.to_thread(readers.in_turn, work)) for _ in range(6)]
        await asyncio.to_thread(work.wait_for, readers.AT_ONCE)
        await asyncio.sleep(0.1)
        work.may_end.set()
        await asyncio.gather(*mine, *others)

    asyncio.run(run())
    assert work.begun == 12 and work.most <= readers.AT_ONCE


def test_a_thread_that_waits_for_something_else_lets_others_read():
    began, go_on = threading.Event(), threading.Event()

    def waiting():
        with readers.letting_others():
            began.set()
            assert go_on.wait(60)
        return "done"

    with ThreadPoolExecutor(2 * readers.AT_ONCE) as threads:
        work = [threads.submit(readers.in_turn, waiting) for _ in range(2 * readers.AT_ONCE)]
        assert began.wait(60)
        assert readers.in_turn(lambda: "read", time.monotonic() + 60) == "read"
        go_on.set()
        assert [one.result(60) for one in work] == ["done"] * len(work)


def test_what_is_too_late_is_not_begun(busy):
    for deadline in (time.monotonic() - 1, time.monotonic() + 0.05):
        with pytest.raises(TooLateError):
            readers.in_turn(lambda: pytest.fail("begun"), deadline)
    busy.may_end.set()
    with pytest.raises(TooLateError):
        readers.in_turn(lambda: pytest.fail("begun"), time.monotonic() - 1)
    assert readers.in_turn(lambda: 3, time.monotonic() + 60) == 3


class SlowEngine(Engine):
    """Opens no image until it may."""

    def __init__(self, *given):
        super().__init__(*given)
        self.opening = Counted()

    def view(self, data, name="image"):
        self.opening()
        return super().view(data, name)


def body_of(path, seed=9):
    """What a route may be asked about a picture."""
    if path.startswith("chat"):
        return {"model": "mini", "messages": messages(picture(seed))}
    more = {"texts": ["a dog", "a cat"]} if path in ("match", "explain") else {}
    return {"image": encoded(picture(seed)), "regions": [BOX], **more}


def test_a_request_that_is_too_late_when_a_thread_is_free_is_not_decoded(mini):
    engine, statuses = SlowEngine(mini, Limits(timeout=5)), []
    with TestClient(create_app(engine)) as client:

        def post(path, seed):
            statuses.append(client.post(f"/v1/{path}", json=body_of(path, seed)).status_code)

        first = [("caption", seed) for seed in range(readers.AT_ONCE)]
        threads = [threading.Thread(target=post, args=one) for one in first]
        for thread in threads:
            thread.start()
        engine.opening.wait_for(readers.AT_ONCE)
        threads.append(threading.Thread(target=post, args=("caption", 9)))
        threads[-1].start()
        threads[-1].join(60)  # until it is told that it is too late
        engine.opening.may_end.set()
        for thread in threads:
            thread.join(60)
    engine.close()
    assert statuses == [504] * (readers.AT_ONCE + 1)
    assert engine.opening.begun == readers.AT_ONCE


@pytest.mark.parametrize("path", ["caption", "match", "embed", "explain", "chat/completions"])
def test_a_request_whose_deadline_passes_on_its_way_is_not_decoded(mini, path, monkeypatch):
    def slowly(read):
        def slow(*given):
            time.sleep(1.1)
            return read(*given)

        return slow

    monkeypatch.setattr(asked, "parse", slowly(asked.parse))
    monkeypatch.setattr(asking, "file_bytes", slowly(asking.file_bytes))
    monkeypatch.setattr(asking, "read_pictures", lambda *_: pytest.fail("decoded"))
    monkeypatch.setattr(Engine, "view", lambda *_: pytest.fail("decoded"))
    engine = Engine(mini, Limits(timeout=1))
    with TestClient(create_app(engine)) as client:
        assert client.post(f"/v1/{path}", json=body_of(path)).status_code == 504


def test_what_takes_longer_than_there_is_time_is_not_waited_for():
    may_end = threading.Event()

    async def run():
        with pytest.raises(TooLateError):
            await readers.off_loop(lambda: may_end.wait(60), time.monotonic() + 0.05)
        assert not may_end.is_set()
        may_end.set()
        assert await readers.off_loop(lambda: 3, time.monotonic() + 60) == 3

    asyncio.run(run())


@pytest.mark.parametrize("path", ["caption", "explain"])
def test_a_reply_that_is_not_written_in_time_is_too_late(mini, monkeypatch, path):
    """Its remaining pictures are not drawn, so that others get a turn."""
    engine, drawn = Engine(mini, Limits(timeout=2)), []

    def slow(values):
        drawn.append(values.shape)
        time.sleep(1.5)
        return "data:"

    monkeypatch.setattr(replies, "png_uri", slow)
    body = {**body_of(path), "regions": [BOX] * 5, "options": {"steps": 1}}
    body |= {"heatmap": True} if path == "caption" else {}
    with TestClient(create_app(engine)) as client:
        reply = client.post(f"/v1/{path}", json=body)
        assert reply.status_code == 504
        count = len(drawn)
        time.sleep(2)
    engine.close()
    assert len(drawn) == count <= 2
