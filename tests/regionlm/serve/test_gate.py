"""All bodies together are bounded, and one that is done makes room for others."""

import asyncio

import pytest

from regionlm.serve.connections import Connections
from regionlm.serve.engine import Engine
from regionlm.serve.gate import Gate, Running
from regionlm.serve.limits import Limits

SCOPE = {"type": "http", "method": "POST", "path": "/", "headers": [], "client": None}


async def read_all(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"read"})


class Request:
    """A request whose body comes as a test says."""

    def __init__(self, gate):
        self.parts, self.status = asyncio.Queue(), None
        self.over = asyncio.ensure_future(gate(dict(SCOPE), self.parts.get, self._said))

    async def _said(self, message):
        self.status = message.get("status", self.status)

    def send(self, size, more=True):
        part = {"type": "http.request", "body": b"x" * size, "more_body": more}
        self.parts.put_nowait(part)


def test_bodies_of_all_requests_together(mini):
    async def run():
        limits = Limits(queue_mib=0.001, client_timeout=60)  # 1048 bytes
        running = Running(Connections(limits.client_timeout))
        gate = Gate(read_all, Engine(mini, limits), running)
        first = Request(gate)
        first.send(800)
        while running.body_bytes < 800:
            await asyncio.sleep(0)
        second = Request(gate)
        second.send(800, more=False)
        await second.over
        assert second.status == 429 and running.body_bytes == 800
        first.send(1200, more=False)  # alone, it may be as large as a body may be
        await first.over
        assert first.status == 200 and running.body_bytes == 0

    asyncio.run(run())


@pytest.mark.parametrize(
    ("limits", "status"),
    [({"client_timeout": 0.05}, 408), ({"timeout": 0.05, "client_timeout": 5}, 504)],
)
def test_a_body_that_does_not_end_is_the_clients_delay_or_the_requests_end(mini, limits, status):
    async def run():
        chosen = Limits(**limits)
        gate = Gate(read_all, Engine(mini, chosen), Running(Connections(chosen.client_timeout)))
        request = Request(gate)
        request.send(10)
        await asyncio.wait_for(request.over, 60)
        return request.status

    assert asyncio.run(run()) == status
