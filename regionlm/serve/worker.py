"""Several processes that serve a model, each on its device.

Nothing heavy is imported until a process has left the first one's group, so that Ctrl-C never
interrupts it.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from prefix_models.errors import DoubtWarning, UserError
from regionlm.errors import InputError
from regionlm.extras import require
from regionlm.serve.listening import address_of, listen
from regionlm.serve.plan import Plan
from regionlm.serve.processes import Supervisor

if TYPE_CHECKING:
    from regionlm.serve.shared_metrics import SharedMetrics

_PUBLISHING = 1.0  # seconds between what a process says of itself to the others
_ENDING = 15.0  # seconds that processes may take to end after the last answer


def device_names(devices: Sequence[str]) -> list[str | None]:
    """The device of each process; None: the CUDA device of its number, or the CPU without CUDA.

    devices: names, or a number of processes.

    Raises:
        InputError: a number among names, or of no process.
    """
    if len(devices) == 1 and devices[0].isdigit() and int(devices[0]) > 0:
        return [None] * int(devices[0])
    if any(one.isdigit() or not one.strip() for one in devices):
        raise InputError(
            "devices: expected one number from 1, or names such as cuda:0 cuda:1; found"
            f" {' '.join(devices)!r}"
        )
    return list(devices)


def run_processes(plan: Plan) -> None:
    """Serve with a process for each of the plan's devices until SIGTERM or SIGINT.

    Then new requests get 503, those that run are finished, and all end.

    Raises:
        UserError: one could not start, the address can't be used, or the extra isn't installed.
    """
    require("serve", "fastapi", "uvicorn")
    devices = device_names(plan.settings.devices)
    with listen(plan.settings) as listening, TemporaryDirectory("-regionlm") as folder:
        work = partial(serve_share, plan, devices, folder)
        supervisor = Supervisor(work, len(devices), listening, plan.limits.timeout + _ENDING)
        address, count = address_of(listening), len(devices)
        supervisor.run(
            lambda: print(
                f"regionlm: serving {plan.model} on {address}, processes: {count}", flush=True
            )
        )


def serve_share(
    plan: Plan,
    devices: Sequence[str | None],
    folder: str,
    number: int,
    listening: socket.socket,
    channel: Connection,
) -> None:
    """What each process does; see `regionlm.serve.processes.Work`.

    Args:
        plan: what is served; its device is replaced.
        devices: of all processes.
        folder: where they leave their figures for each other.
    """
    if hasattr(os, "setsid"):
        os.setsid()  # Ctrl-C goes to the first process alone, which tells the others
    threading.Thread(target=end_with_parent, daemon=True).start()
    _quiet_libraries()
    try:
        from regionlm.serve.running import serve_on, warm_up
        from regionlm.serve.shared_metrics import SharedMetrics

        _share_processors(len(devices))
        device = devices[number] or _own_device(number)
        service = replace(plan, device=device).build(
            partial(SharedMetrics, folder=Path(folder), number=number)
        )
        if plan.settings.warmup:
            warm_up(service.engine)
    except UserError as error:
        channel.send(str(error))
        return
    channel.send(None)
    channel.close()
    threading.Thread(target=_publish, args=(service.app.state.metrics,), daemon=True).start()
    serve_on(service.app, service.engine, listening, is_shared=True)
    service.log.close()


def _quiet_libraries() -> None:
    """As the command line does in the first process."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
        warnings.simplefilter("default", DoubtWarning)
        logging.disable(logging.INFO)


def end_with_parent() -> None:
    """Wait until the first process has ended, however it did, and tell this one to finish."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)


def _own_device(number: int) -> str:
    import torch

    return f"cuda:{number}" if torch.cuda.is_available() else "cpu"


def _share_processors(processes: int) -> None:
    import torch

    from regionlm.distributed.thread_counts import threads_each

    torch.set_num_threads(threads_each(processes))


def _publish(metrics: SharedMetrics) -> None:
    pause = threading.Event()
    while not pause.wait(_PUBLISHING):
        metrics.publish()
