"""The last that a request passes before it is routed: its body may be neither large nor slow."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from regionlm.extras import extra
from regionlm.serve.connections import Connections
from regionlm.serve.errors import (
    ClosingError,
    QueueFullError,
    ServiceError,
    SlowClientError,
    TooLargeError,
    TooLateError,
)
from regionlm.serve.json_size import JsonSize

with extra("serve"):
    from starlette.responses import JSONResponse
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

if TYPE_CHECKING:
    from regionlm.serve.engine import Engine

ALWAYS_OPEN = ("/health", "/ready", "/metrics")
"""Paths that are answered while the service is stopping, too."""


MCP_PATH = "/mcp"
"""Whose clients read errors of JSON-RPC alone."""


def error_response(error: ServiceError, path: str = "") -> JSONResponse:
    """The reply to a request that gets no answer. path: of the request."""
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    body = error.to_dict()
    if path == MCP_PATH:
        code = -32000  # of JSON-RPC's range for errors of a server's own
        told = {"code": code, "message": body["error"]["message"]}
        body = {"jsonrpc": "2.0", "id": None, "error": told}
    return JSONResponse(body, error.status, headers)


class Running:
    """The requests that are being answered.

    Args:
        connections: hear of them.
    """

    def __init__(self, connections: Connections) -> None:
        self.count, self._connections = 0, connections
        self.body_bytes = 0
        """Of all requests that are being answered, as far as they have come."""

    @contextmanager
    def one_more(self, scope: Scope) -> Iterator[Callable[[], None]]:
        """While a request is being answered; what cuts its client off."""
        client = tuple(scope["client"]) if scope.get("client") else None
        self.count += 1
        self._connections.begun(client)
        try:
            yield lambda: self._connections.cut_off(client)
        finally:
            self.count -= 1
            self._connections.ended(client)


class Gate:
    """ASGI middleware. The body of a request is refused with 413 where it is too large or its JSON
    has too many values, with 429 where all bodies together are too large, with 408 where the client
    pauses for too long, and with 504 where the request's own time ends; any new request with 503
    while the engine is closing. A client that doesn't read its reply is cut off.

    Args:
        app: what is behind it.
        engine: whose limits hold.
        running: how many requests there are now.
    """

    def __init__(self, app: ASGIApp, engine: Engine, running: Running) -> None:
        self._app, self._engine, self._running = app, engine, running

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._engine.is_closing and scope["path"] not in ALWAYS_OPEN:
            closing = ClosingError()
            await error_response(closing, scope["path"])(scope, receive, send)
            return
        scope.setdefault("state", {})["arrived"] = time.monotonic()
        guarded = _Guarded(self._app, self._engine, self._running, receive, send)
        try:
            with self._running.one_more(scope) as guarded.cut_off:
                await guarded.run(scope)
        finally:
            guarded.forget_body()


class _Guarded:
    """One request and its body."""

    def __init__(
        self, app: ASGIApp, engine: Engine, running: Running, receive: Receive, send: Send
    ) -> None:
        self._app, self._receive, self._send = app, receive, send
        self._running, self._most_of_all = running, engine.limits.queue_mib * 2**20
        self._mebibytes = engine.limits.max_body_mib
        self._most = int(self._mebibytes * 2**20)
        self._pause = engine.limits.client_timeout
        self._deadline = time.monotonic() + engine.limits.timeout
        self._size = 0
        self._json: JsonSize | None = JsonSize()
        self._is_whole = self._has_begun = False
        self._refusal: ServiceError | None = None
        self.cut_off: Callable[[], None] = lambda: None

    async def run(self, scope: Scope) -> None:
        """Let the app answer, unless the body is refused; then whatever it says is not sent."""
        headers = dict(scope["headers"])
        if headers.get(b"content-type", b"").lower().startswith(b"multipart/"):
            self._json = None  # files, and JSON that is counted by who takes them apart
        stated = headers.get(b"content-length", b"0")
        if stated.isdigit() and int(stated) > self._most:
            self._refuse(self._too_large())
        else:
            try:
                await self._app(scope, self.receive, self.send)
            except Exception:
                if self._refusal is None:
                    raise
        if self._refusal is not None and not self._has_begun:
            reply = error_response(self._refusal, scope["path"])
            await reply(scope, self._receive, self._send)

    async def receive(self) -> Message:
        """The next part of the body, as ASGI has it; a refusal looks as if the client had gone."""
        if self._is_whole:
            return await self._receive()
        if self._refusal is not None:
            return {"type": "http.disconnect"}
        left = self._deadline - time.monotonic()
        try:
            message = await asyncio.wait_for(self._receive(), max(0.0, min(self._pause, left)))
        except asyncio.TimeoutError:
            if left <= self._pause:
                return self._refuse(TooLateError())
            slow = SlowClientError("the body of the request did not come in time; send it faster")
            return self._refuse(slow)
        body = message.get("body", b"")
        self._size += len(body)
        self._running.body_bytes += len(body)
        if self._size > self._most:
            return self._refuse(self._too_large())
        if self._size < self._running.body_bytes > self._most_of_all:  # others have some of it
            return self._refuse(
                QueueFullError("too much is being sent at once; try again in 1 s", retry_after=1)
            )
        self._is_whole = not message.get("more_body", False)
        if self._json is not None:
            self._json.add(body)
            if self._is_whole:  # not before: a client that still sends would not hear of it
                try:
                    self._json.check()
                except TooLargeError as error:
                    return self._refuse(error)
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the reply, unless the request is refused; the client must read it soon."""
        if self._refusal is None or self._has_begun:
            self._has_begun = True
            try:
                # The server waits here until most of what was sent before has been read.
                await asyncio.wait_for(self._send(message), self._pause)
            except asyncio.TimeoutError:
                self.cut_off()

    def forget_body(self) -> None:
        """The request is over, and its body with it."""
        self._running.body_bytes -= self._size

    def _too_large(self) -> TooLargeError:
        return TooLargeError(
            f"the body of a request may have at most {self._mebibytes:g} MiB; send less"
        )

    def _refuse(self, error: ServiceError) -> dict[str, Any]:
        self._refusal = error
        return {"type": "http.disconnect"}
