"""Open connections: those that send nothing, or a request's head byte by byte, are closed."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

Address = tuple[str, int]
"""Host and port of a client."""


class Connections:
    """Knows since when each connection has had no request, and closes those that take too long.

    A server holds a connection until the head of a request is there, however slowly it comes.

    Args:
        seconds: that a connection may be without a request.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._open: dict[Address, asyncio.Transport] = {}
        self._idle_since: dict[Address, float] = {}
        self._running: Counter[Address] = Counter()

    def protocol(self, kind: type[Any]) -> type[Any]:
        """A subclass of an asyncio protocol whose connections are watched."""
        connections = self

        class Watched(kind):  # type: ignore[misc]  # known when the server has chosen it
            _address: Address | None = None

            def connection_made(self, transport: asyncio.Transport) -> None:
                super().connection_made(transport)
                name = transport.get_extra_info("peername")
                if name:
                    self._address = (name[0], name[1])
                    connections._open[self._address] = transport
                    connections._idle_since[self._address] = time.monotonic()

            def connection_lost(self, error: Exception | None) -> None:
                super().connection_lost(error)
                if self._address is not None:
                    connections._open.pop(self._address, None)
                    connections._idle_since.pop(self._address, None)
                    connections._running.pop(self._address, None)

        return Watched

    def begun(self, client: Address | None) -> None:
        """A request of a client is there."""
        if client in self._open:
            self._running[client] += 1
            self._idle_since.pop(client, None)

    def ended(self, client: Address | None) -> None:
        """The request was answered."""
        if client in self._open:
            self._running[client] -= 1
            if not self._running[client]:
                self._idle_since[client] = time.monotonic()

    def cut_off(self, client: Address | None) -> None:
        """Close the connection of a client that does not read its reply.

        Raises:
            ConnectionError: it is none of the server's that are watched.
        """
        if client not in self._open:
            raise ConnectionError("the client does not read its reply")
        self._open[client].abort()

    async def watch(self) -> None:
        """Close slow connections, for ever."""
        while True:
            await asyncio.sleep(self._seconds / 4)
            now = time.monotonic()
            for client, since in list(self._idle_since.items()):
                if now - since > self._seconds:
                    self._open[client].abort()
