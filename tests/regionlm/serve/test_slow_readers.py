"""A client that does not read its reply holds nothing for long."""

import asyncio
import socket
import threading

import pytest
from starlette.responses import StreamingResponse

from regionlm.serve.app import create_app
from regionlm.serve.connections import Connections
from regionlm.serve.engine import Engine
from regionlm.serve.limits import Limits
from regionlm.serve.listening import listen
from regionlm.serve.running import serve_on
from regionlm.serve.settings import Settings

WAIT = 60  # seconds; only a failing test waits so long


def test_a_client_that_does_not_read_is_cut_off(mini):
    engine, ended = Engine(mini, Limits(client_timeout=1, timeout=5)), threading.Event()
    app, settings = create_app(engine), Settings(port=0)

    async def endless():
        try:
            while True:
                yield b"x" * 2**20
                await asyncio.sleep(0)
        finally:
            ended.set()

    app.add_route("/endless", lambda _: StreamingResponse(endless()))
    with listen(settings) as listening:
        thread = threading.Thread(target=serve_on, args=(app, engine, listening))
        thread.start()
        with socket.create_connection(listening.getsockname(), WAIT) as deaf:
            deaf.sendall(b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
            has_ended = ended.wait(WAIT)
        engine.refuse()
        thread.join(WAIT)
    assert has_ended and not thread.is_alive()


def test_a_connection_of_another_server_is_an_error():
    with pytest.raises(ConnectionError, match="does not read"):
        Connections(1.0).cut_off(("10.0.0.1", 9))
