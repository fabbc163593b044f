"""Ports for servers that must be told one."""

import random
import socket
from contextlib import suppress

FIRST, END = 20_000, 32_768  # from here on systems hand them out to whoever asks for any


def free_port() -> int:
    """A port of loopback that can be bound, and that nobody is given in the meantime."""
    while True:
        port = random.SystemRandom().randrange(FIRST, END)  # not as seeded by a test
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
