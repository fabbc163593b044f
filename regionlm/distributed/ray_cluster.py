"""A connection to a Ray cluster."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from regionlm.errors import InputError
from regionlm.extras import extra

with extra("ray"):
    import ray

_PATIENCE = 10  # seconds for an address to answer


@contextmanager
def connected(address: bool | str) -> Iterator[None]:
    """Connect to a cluster, unless this process is connected already.

    Args:
        address: auto, HOST:PORT or ray://HOST:PORT. True takes the cluster of RAY_ADDRESS or of
            this machine if there is one, and else starts one, which ends with the block.

    Raises:
        InputError: nobody answers at the address.
    """
    if ray.is_initialized():
        yield
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        _check_reached(address)
        ray.init("auto" if address is True else str(address), **quiet)
    except (OSError, ValueError, RuntimeError) as error:  # OSError: also a ConnectionError
        if address is not True:
            raise InputError(
                f"ray: no Ray cluster answers at {address} ({' '.join(str(error).split())[:200]});"
                " start one there, or leave the address out"
            ) from error
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its makers
        ray.init("local", include_dashboard=False, **quiet)
    try:
        yield
    finally:
        ray.shutdown()


def count_of(kind: str) -> int:
    """How many ``"CPU"`` or ``"GPU"`` the cluster has."""
    return int(ray.cluster_resources().get(kind, 0))


def _check_reached(address: bool | str) -> None:
    """Raise OSError if nothing answers at HOST:PORT; Ray itself would try for many minutes."""
    host, colon, port = str(address).removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
