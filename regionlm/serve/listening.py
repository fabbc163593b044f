"""The socket of the service. Nothing heavy may be imported here."""

from __future__ import annotations

import errno
import socket

from prefix_models.errors import first_line
from regionlm.errors import InputError
from regionlm.serve.settings import Settings

WAITING = 512  # connections that may wait to be taken


def listen(settings: Settings) -> socket.socket:
    """A socket that listens where the settings say.

    Raises:
        InputError: the address or the port can't be used.
    """
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0]
        made = socket.create_server((settings.host, settings.port), family=family, backlog=WAITING)
    except OSError as error:
        other = "port" if error.errno in (errno.EADDRINUSE, errno.EACCES) else "host"
        raise InputError(
            f"--host {settings.host} --port {settings.port}: cannot listen there"
            f" ({error.strerror or first_line(error)}); take another {other}"
        ) from error
    # asyncio does this only to sockets that name their protocol; without it, a reply's second part
    # waits 40 ms for the first one's receipt.
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def address_of(listening: socket.socket) -> str:
    """The address of a service."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
