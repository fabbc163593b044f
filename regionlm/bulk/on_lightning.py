"""Captions of a manifest on the processes that Lightning starts, or that started this one."""

from __future__ import annotations

from collections.abc import Callable

from regionlm.bulk.output import Summary
from regionlm.bulk.work import Work
from regionlm.devices import resolve_device
from regionlm.distributed.predict_module import PredictModule
from regionlm.distributed.trainer import new_trainer, predict_items
from regionlm.errors import InputError


class LightningMachines:
    """As `regionlm.bulk.work.Machines`; see `regionlm.bulk.caption_manifest` for the arguments.

    Raises InputError, ModelError: this machine does not have these devices.
    """

    def __init__(self, device: str, *, devices: int, workers: int) -> None:
        self._workers = workers
        self._trainer = new_trainer(*_accelerator(device, devices))

    def caption(self, work: Work, finish: Callable[[float], Summary]) -> Summary:
        """Caption the lines that the journal lacks; the first process finishes the run."""
        pictures = work.pictures
        module = PredictModule(
            pictures,
            work.request.load,
            work.journal,
            workers=self._workers,
            unreadable=pictures.unreadable if pictures.skip_bad else None,
            progress=work.progress,
            named="captions",
        )
        return predict_items(
            self._trainer, module, lambda: finish(module.started), folder=work.journal.folder
        )


def _accelerator(device: str, devices: int) -> tuple[str, int | list[int]]:
    """Accelerator and devices, as Lightning names them."""
    found = resolve_device(device)
    if found.type == "cpu" or found.index is None:
        return found.type, devices
    if devices != 1:
        raise InputError(
            f"devices: expected 1 with --device {device}, found {devices}; give --device"
            f" {found.type}, or leave --device out"
        )
    return found.type, [found.index]
