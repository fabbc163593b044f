"""A connection to a Ray cluster."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prefix_models.errors import refusing
from regionlm.errors import InputError
from regionlm.extras import extra

with extra("ray"):
    import ray

_PATIENCE = 10  # seconds for an address to answer
_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
_UNREACHED = (OSError, ValueError, RuntimeError)  # OSError: also a ConnectionError


@contextmanager
def connected(address: bool | str) -> Iterator[None]:
    """Connect to a cluster, unless this process is connected already.

    Args:
        address: auto, HOST:PORT or ray://HOST:PORT. True takes the cluster of RAY_ADDRESS or what
            `ray start` has started on this machine, and else starts one, which ends with the block;
            auto takes also one that another program has started for itself.

    Raises:
        InputError: nobody answers at the address, or none could be started.
    """
    if ray.is_initialized():
        yield
        return
    if address is True:
        _join_or_start()
    else:
        _join(str(address))
    try:
        yield
    finally:
        ray.shutdown()


def count_of(kind: str) -> int:
    """How many ``"CPU"`` or ``"GPU"`` the cluster has."""
    return int(ray.cluster_resources().get(kind, 0))


def takes_gpus(device: str) -> bool:
    """Whether workers with this device (auto, cpu or cuda) are given GPUs."""
    return device == "cuda" or (device == "auto" and count_of("GPU") > 0)


def check_devices(devices: int, gpus: bool) -> None:
    """Raise InputError for more devices than the cluster has."""
    kind = "GPU" if gpus else "CPU"
    count = count_of(kind)
    if count < devices:
        raise InputError(
            f"devices: expected at most {count}, the {kind}s of the Ray cluster, found {devices}"
        )


def _join(address: str) -> None:
    try:
        _check_reached(address)
        ray.init(address, **_QUIET)
    except _UNREACHED as error:
        raise InputError(
            f"ray: no Ray cluster answers at {address} ({' '.join(str(error).split())[:200]});"
            " start one there, or leave the address out"
        ) from error


def _join_or_start() -> None:
    own = {"include_dashboard": False, **_QUIET}
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its makers
    with refusing(InputError, "ray: no cluster could be started on this machine"):
        try:
            _check_reached(os.environ.get("RAY_ADDRESS", ""))
            # With "auto", Ray would also take a cluster that ends with another program.
            ray.init(**own)
        except _UNREACHED:
            ray.init("local", **own)


def _check_reached(address: str) -> None:
    """Raise OSError if nothing answers at HOST:PORT; Ray itself would try for many minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
