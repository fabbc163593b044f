"""Checks of the machine: Python, system, processors and the device to run on."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import regionlm
from regionlm.doctor.diagnosis import Row
from regionlm.threads import available_processors

if TYPE_CHECKING:
    import torch


def system() -> Iterator[Row]:
    """Tell Python, the operating system, and where regionlm was imported from."""
    yield Row("Python", f"{platform.python_version()} ({platform.python_implementation()})")
    yield Row("system", platform.platform())
    yield Row("regionlm in", str(Path(regionlm.__file__).parent))


def processors() -> Iterator[Row]:
    """Tell the number of processors and of PyTorch's threads."""
    count = os.cpu_count() or 0
    allowed = available_processors()
    limited = f", {allowed} for this process" if allowed != count else ""
    yield Row("processors", f"{count}{limited}")
    import torch

    yield Row("threads", str(torch.get_num_threads()))


def device(name: str) -> Iterator[Row]:
    """Tell which device a name stands for on this machine."""
    import torch

    from regionlm.devices import resolve_device

    yield Row("PyTorch for", f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA")
    found = resolve_device(name)
    yield Row(f"device {name}", f"{found}{_about(found)}")


def _about(device: torch.device) -> str:
    if device.type != "cuda":
        return ""
    import torch

    about = torch.cuda.get_device_properties(device)
    count = torch.cuda.device_count()
    others = f", the first of {count}" if count > 1 and device.index is None else ""
    return f": {about.name}, {about.total_memory / 2**30:.0f} GiB{others}"
