"""Run the service in this process until it is told to stop."""

from __future__ import annotations

import asyncio
import math
import socket
import time
from types import FrameType
from typing import TYPE_CHECKING

from regionlm.extras import extra
from regionlm.serve.listening import WAITING, address_of, listen
from regionlm.serve.readiness import self_check
from regionlm.serve.settings import Settings

with extra("serve"):
    import uvicorn
    from fastapi import FastAPI

if TYPE_CHECKING:
    from regionlm.serve.engine import Engine

_POLL = 0.05  # seconds between looks at what still runs
_KEEP_ALIVE = 5  # seconds that an idle connection is kept
_LAST_WORDS = 5  # seconds for connections to close after everything was answered


def run(app: FastAPI, engine: Engine, settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT.

    Then new requests get 503, those that run are finished, and the process ends. A second signal
    ends it at once.

    Raises:
        InputError: the address or the port can't be used.
    """
    if settings.warmup:
        warm_up(engine)
    with listen(settings) as listening:
        print(f"regionlm: serving {engine.name} on {address_of(listening)}", flush=True)
        serve_on(app, engine, listening)


def serve_on(
    app: FastAPI, engine: Engine, listening: socket.socket, *, is_shared: bool = False
) -> None:
    """As `run`, on a socket that listens already; other processes may listen on it, too."""
    asyncio.run(_serve(app, engine, listening, is_shared))
    engine.close(_LAST_WORDS)


def warm_up(engine: Engine) -> None:
    """Have one question answered, then as many together as may be. Raises as `Engine.ask`.

    However long it takes: compiling a trunk takes longer than any client would wait.
    """
    for count in (1, min(engine.limits.max_batch, engine.limits.max_queue)):
        asyncio.run(self_check(engine, count, math.inf))


async def _serve(app: FastAPI, engine: Engine, listening: socket.socket, is_shared: bool) -> None:
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        backlog=1 if is_shared else WAITING,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=_LAST_WORDS,
        ws="none",  # nothing here speaks WebSocket: what would read it is not even imported
        proxy_headers=False,  # connections are told apart by their own addresses
    )
    config.load()
    config.http_protocol_class = app.state.connections.protocol(config.http_protocol_class)
    server = _Server(config, engine)
    beside = [
        asyncio.create_task(_stop_when_drained(server, app, engine)),
        asyncio.create_task(app.state.connections.watch()),
    ]
    await server.serve(sockets=[listening])
    for task in beside:
        task.cancel()


class _Server(uvicorn.Server):
    """A server whose first signal lets what runs be finished."""

    def __init__(self, config: uvicorn.Config, engine: Engine) -> None:
        super().__init__(config)
        self._engine = engine

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to take connections.

        asyncio takes as many at once as its backlog allows, so the first of several processes would
        take all that are there, and the others none. Their backlog is 1, which also refuses those
        that come together; so here they may wait again.
        """
        await super().startup(sockets)
        for one in sockets or ():
            one.listen(WAITING)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._engine.is_closing:
            super().handle_exit(sig, frame)
        self._engine.refuse()


async def _stop_when_drained(server: uvicorn.Server, app: FastAPI, engine: Engine) -> None:
    while not engine.is_closing:
        await asyncio.sleep(_POLL)
    latest = time.monotonic() + engine.limits.timeout
    while app.state.running.count and time.monotonic() < latest:
        await asyncio.sleep(_POLL)
    server.should_exit = True
