"""Every request gets an id, a line in the log and a place in the figures, and an error that nobody
expected a reply."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Callable
from datetime import datetime, timezone

from regionlm.serve.errors import error_body
from regionlm.serve.net.log_lines import LogLines
from regionlm.serve.net.replies import App, Message, Receive, Scope, Send, send_error

_SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_LONGEST_PATH = 200
_GONE = 499
"""The status where the client left before the reply; the number that nginx writes, too."""

Counted = Callable[[str, int, float], None]
"""Called for each request with the path of its route (not its own, of which there is no end; where
none was reached, "other"), the status and the seconds until the reply's end."""

logger = logging.getLogger(__name__)


class Requests:
    """ASGI middleware, the outermost: ids, the log and the figures.

    The reply's `X-Request-ID` is the client's own if it has 1 to 64 letters, digits, dots, dashes
    or underscores; handlers find it as `request.state.request_id`. The log has the time, id,
    method, path (without the query), status, milliseconds until the reply's end and bytes of its
    body; nothing of what was sent.

    Args:
        log: None writes no lines.
        count: None counts nothing.
    """

    def __init__(
        self, app: App, *, log: LogLines | None = None, count: Counted | None = None
    ) -> None:
        self.app, self.log, self.count = app, log, count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, and write its line."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(scope, send)
        scope.setdefault("state", {})["request_id"] = exchange.id
        try:
            await self.app(scope, receive, exchange.send)
        finally:
            exchange.is_over()
            if self.log is not None:
                self.log.write(exchange.line())
            if self.count is not None:
                route = getattr(scope.get("route"), "path", "other")
                self.count(route, exchange.status, exchange.seconds)


class Failures:
    """ASGI middleware inside of `Requests`: a reply to errors in the service itself."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        has_begun = False

        async def noted(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self.app(scope, receive, noted)
        except Exception:
            if scope["type"] != "http":
                raise
            name = scope["state"]["request_id"]
            logger.exception("request %s failed", name)
            if has_begun:
                raise  # the server cuts the connection, so that half a reply isn't taken for one
            message = f"an error in the service; its log says more of request {name}"
            await send_error(send, 500, error_body(message, "server_error", None, "internal_error"))


class _Exchange:
    """A request, and what has been replied so far."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.id = _given_id(scope) or uuid.uuid4().hex
        self.status = _GONE
        self.seconds = 0.0
        self._scope, self._send, self._bytes = scope, send, 0
        self._began = time.perf_counter()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message.get("headers", ()), (b"x-request-id", self.id.encode())]
            message = {**message, "headers": headers}
        elif message["type"] == "http.response.body":
            self._bytes += len(message.get("body", b""))
        await self._send(message)

    def is_over(self) -> None:
        """It has been answered, or nobody waits for that any more."""
        self.seconds = time.perf_counter() - self._began

    def line(self) -> dict[str, str | int | float]:
        return {
            "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            "id": self.id,
            "method": self._scope["method"],
            "path": self._scope["path"][:_LONGEST_PATH],
            "status": self.status,
            "ms": round(1000 * self.seconds, 1),
            "bytes": self._bytes,
        }


def _given_id(scope: Scope) -> str | None:
    given = [value for name, value in scope["headers"] if name == b"x-request-id"]
    sane = len(given) == 1 and _SANE_ID.fullmatch(given[0])
    return given[0].decode() if sane else None
