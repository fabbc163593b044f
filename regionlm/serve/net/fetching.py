"""Fetches images from hosts that the operator has named, and from nowhere else.

Whoever may have a server fetch an address may try to make it ask its own network. So the name is
looked up once, every address found must be public, and it is such an address that is connected to:
the name is not looked up again, whatever its server would say by then. The Host header and TLS
still have the name. Redirects go through the same checks, and proxies of the environment are not
used.
"""

from __future__ import annotations

import asyncio
import math
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urljoin

from regionlm.extras import extra
from regionlm.serve.errors import TooLateError
from regionlm.serve.net.addresses import is_public
from regionlm.serve.net.urls import AllowedHosts, Url, UrlError, read_url

with extra("serve"):
    import h11

_REDIRECTS = {301, 302, 303, 307, 308}
_MOST_REDIRECTS = 3
_MOST_ADDRESSES = 4
_AT_ONCE = 8
_CHUNK = 64 * 1024

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""The addresses of a host and port."""
Connect = Callable[[str, int], Awaitable[socket.socket]]
"""A connection to an address and port, non-blocking."""


@dataclass(frozen=True)
class _Reply:
    status: int
    headers: dict[bytes, bytes]
    body: bytes


class Room:
    """The bytes that all images of a request may have together, as far as they are left.

    Args:
        most_bytes: at first.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most = self._left = most_bytes

    def take(self, count: int) -> None:
        """Use some of them. Raises UrlError: there are not so many left."""
        self._left -= count
        if self._left < 0:
            raise UrlError(
                f"url: expected at most {self._most} bytes in all images of a request, found more;"
                " scale them down"
            )


class UrlFetcher:
    """Fetches images from allowed hosts.

    Args:
        hosts: names, as `AllowedHosts` has them; none means that nothing is fetched.
        most_bytes: of all images of a request.
        seconds: for all of it: looking up, connecting, redirects, reading.
        resolve, connect, tls: how names are looked up, addresses connected to, certificates
            checked.

    Raises:
        UrlError: a name that is none.
    """

    def __init__(
        self,
        hosts: Sequence[str],
        *,
        most_bytes: int,
        seconds: float = 10.0,
        resolve: Resolve | None = None,
        connect: Connect | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.hosts, self.most_bytes, self.seconds = AllowedHosts(hosts), most_bytes, seconds
        self._resolve, self._connect = resolve or look_up, connect or connect_to
        self._tls = tls or ssl.create_default_context()
        self._turns = asyncio.Semaphore(_AT_ONCE)

    def room(self) -> Room:
        """For the images of a request that has several."""
        return Room(self.most_bytes)

    async def fetch(
        self, text: str, *, deadline: float | None = None, room: Room | None = None
    ) -> bytes:
        """The bytes at an address.

        Args:
            text: the address.
            deadline: of the request that asks for it, by `time.monotonic`.
            room: that its images share; None: it has no other one.

        Raises:
            UrlError: a host that isn't allowed or isn't public, an error of the server, more than
                `most_bytes`, more than `seconds`. TooLateError: the deadline passed before.
        """
        if not self.hosts:
            raise UrlError(
                "url: this service fetches no addresses; send the image itself, as a data: URI"
            )
        left = math.inf if deadline is None else max(0.0, deadline - time.monotonic())
        following = self._follow(read_url(text), room or self.room())
        try:
            return await asyncio.wait_for(following, min(self.seconds, left))
        except asyncio.TimeoutError as error:
            if left <= self.seconds:
                raise TooLateError from error
            raise UrlError(f"url: not fetched within {self.seconds:.3g} seconds") from error

    async def _follow(self, url: Url, room: Room) -> bytes:
        async with self._turns:
            for _ in range(1 + _MOST_REDIRECTS):
                self.hosts.check(url)
                reply = await self._ask(url, room)
                if reply.status not in _REDIRECTS:
                    return _content(url, reply)
                url = _redirected(url, reply)
        raise UrlError(f"url: more than {_MOST_REDIRECTS} redirects")

    async def _ask(self, url: Url, room: Room) -> _Reply:
        try:
            reader, writer = await self._open(url)
            try:
                return await _exchange(url, reader, writer, room)
            finally:
                writer.close()
        except (OSError, h11.ProtocolError) as error:
            raise UrlError(f"url: {url.authority} could not be asked, try again later") from error

    async def _open(self, url: Url) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        tls = self._tls if url.scheme == "https" else None
        problem: OSError = ConnectionError("no address")
        for address in (await self._addresses(url))[:_MOST_ADDRESSES]:
            try:
                connection = await self._connect(address, url.port)
            except OSError as error:
                problem = error
                continue
            return await asyncio.open_connection(
                sock=connection, ssl=tls, server_hostname=url.host if tls else None
            )
        raise problem

    async def _addresses(self, url: Url) -> list[str]:
        try:
            found = await self._resolve(url.host, url.port)
        except (OSError, UnicodeError) as error:
            raise UrlError(f"url: no address of {url.host} is known; check its name") from error
        if not all(map(is_public, found)):
            raise UrlError(
                f"url: {url.host} is not on the public internet; send the image itself, as a"
                " data: URI"
            )
        return found


async def look_up(host: str, port: int) -> list[str]:
    """Addresses that the system knows of a name. Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


async def connect_to(address: str, port: int) -> socket.socket:
    """A connection to an address, which is not looked up any more. Raises OSError."""
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    made.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(made, (address, port))
    except BaseException:
        made.close()
        raise
    return made


async def _exchange(
    url: Url, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, room: Room
) -> _Reply:
    connection = h11.Connection(h11.CLIENT)
    asked = h11.Request(
        method="GET",
        target=url.target,
        headers=[
            ("Host", url.authority),
            ("Accept", "image/*"),
            ("Accept-Encoding", "identity"),
            ("User-Agent", "regionlm"),
            ("Connection", "close"),
        ],
    )
    writer.write(connection.send(asked) or b"")
    writer.write(connection.send(h11.EndOfMessage()) or b"")
    await writer.drain()
    status, headers, body = 0, {}, bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(_CHUNK))
        elif isinstance(event, h11.Response):
            status, headers = event.status_code, dict(event.headers)
            if status != 200:
                break  # whatever it says
        elif isinstance(event, h11.Data):
            room.take(len(event.data))
            body += event.data
        elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
            break
    return _Reply(status, headers, bytes(body))


def _content(url: Url, reply: _Reply) -> bytes:
    if reply.status != 200:
        raise UrlError(f"url: {url.authority} answered {reply.status} instead of an image")
    if reply.headers.get(b"content-encoding", b"identity") != b"identity":
        raise UrlError(f"url: {url.authority} sent its image compressed, though asked not to")
    return reply.body


def _redirected(url: Url, reply: _Reply) -> Url:
    place = reply.headers.get(b"location", b"").decode("latin-1")
    try:
        place = urljoin(f"{url.scheme}://{url.authority}{url.target}", place)
    except ValueError as error:
        raise UrlError(f"url: {url.authority} redirects to what is no address") from error
    found = read_url(place)
    if url.scheme == "https" and found.scheme != "https":
        raise UrlError(f"url: {url.authority} redirects from https to http; use another address")
    return found
