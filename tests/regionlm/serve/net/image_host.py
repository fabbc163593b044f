"""A web server on loopback that stands for hosts of the public internet."""

import asyncio
import socket
from contextlib import asynccontextmanager

from regionlm.serve.net.fetching import UrlFetcher, connect_to

PUBLIC = "93.184.216.34"
NAME = "images.example.org"


class ImageHost:
    """Answers every request by `reply`, and notes what was asked and connected to.

    Fetchers made by `fetcher` look names up in `names` and reach this server at PUBLIC; any other
    address would really be connected to.
    """

    def __init__(self, reply, tls=None):
        self.reply, self.tls = reply, tls
        self.requests, self.connected, self.looked_up = [], [], []
        self.names = {NAME: [PUBLIC]}

    @asynccontextmanager
    async def running(self):
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0, ssl=self.tls)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    def fetcher(self, hosts=(NAME,), **options):
        return UrlFetcher(
            hosts,
            **{"most_bytes": 1000, "seconds": 20, **options},
            resolve=self._resolve,
            connect=self._connect,
        )

    async def _resolve(self, host, port):
        self.looked_up.append(host)
        found = self.names.get(host)
        if found is None:
            raise socket.gaierror("unknown")
        return found() if callable(found) else found

    async def _connect(self, address, port):
        self.connected.append((address, port))
        assert address == PUBLIC, "a connection that should never have been tried"
        return await connect_to("127.0.0.1", self.port)

    async def _answer(self, reader, writer):
        try:
            asked = await reader.readuntil(b"\r\n\r\n")
            self.requests.append(asked.decode())
            await self.reply(writer, asked.decode())
        except (OSError, asyncio.IncompleteReadError):
            pass  # the fetcher has hung up
        finally:
            writer.close()


def says(status, body=b"", **headers):
    """A reply: to every request the same."""

    async def reply(writer, asked):
        lines = [f"HTTP/1.1 {status} x", f"content-length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        await writer.drain()

    return reply


def fetch(host, url, hosts=(NAME,), **options):
    """Fetch from a host that runs as long."""

    async def run():
        async with host.running():
            return await host.fetcher(hosts, **options).fetch(url)

    return asyncio.run(run())
