"""Which device work runs on."""

from __future__ import annotations

import torch

from regionlm.errors import ModelError


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """Turn ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"`` into a device that exists.

    ``"auto"`` takes the first of cuda, mps, cpu that this machine has.

    Raises:
        ModelError: the name is no device, or this machine has no such device.
    """
    if isinstance(device, str) and device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise _unknown(device) from error
    if found.type != "cuda" and str(found) not in ("cpu", "mps", "mps:0"):  # so tensors call theirs
        raise _unknown(device)
    if found.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (found.index or 0) >= count:
            raise ModelError(
                f"device {device!r} was asked for but PyTorch sees {count} CUDA devices;"
                " use --device cpu or auto"
            )
    if found.type == "mps" and not torch.backends.mps.is_available():
        raise ModelError(f"device {device!r} was asked for but this machine has none; use cpu")
    return found


def _unknown(device: object) -> ModelError:
    return ModelError(f"device: expected auto, cpu, cuda, cuda:N or mps, found {str(device)!r}")
