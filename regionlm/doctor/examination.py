"""Run all checks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from regionlm.doctor import machine, places
from regionlm.doctor.diagnosis import Diagnosis, Row
from regionlm.doctor.package_versions import extras, own_version, versions
from regionlm.doctor.run_check import make_section, run_check
from regionlm.errors import InputError

_DEVICES = re.compile(r"auto|cpu|cuda(:\d+)?|mps(:0)?")


def examine(
    model: str | Path = "mini", *, device: str = "auto", offline: bool = False
) -> Diagnosis:
    """Check versions, extras, machine, folders and the hub, and try a model on a known image.

    Nothing is written, except that a model of the hub is kept in the hub's cache.

    Args:
        model: mini, whose caption of that image is known; a preset; or the folder or hub id of a
            bundle or of a LLaVA.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"mps"``.
        offline: only use files on this machine, and do not contact the hub.

    Returns:
        The diagnosis. Its `faults` are what is wrong: a package that is missing or too old, a
        device that does not exist, a model that can't be loaded or does not work as it should.

    Raises:
        InputError: unknown name of a device.
    """
    if not _DEVICES.fullmatch(device):
        raise InputError(f"device: expected auto, cpu, cuda, cuda:N or mps, found {device!r}")

    def tried() -> Iterator[Row]:
        from regionlm.doctor.model_check import examine_model  # its imports may fail

        return examine_model(model, device, offline)

    return Diagnosis(
        own_version(),
        (
            make_section("versions", run_check("versions", versions), ("installed", "tested")),
            make_section("extras", run_check("extras", extras)),
            make_section(
                "machine",
                [
                    *run_check("system", machine.system),
                    *run_check("processors", machine.processors),
                    *run_check("device", lambda: machine.device(device)),
                ],
            ),
            make_section(
                "files",
                [
                    *run_check("hub's files", places.hub_cache),
                    *run_check("folders", places.own_folders),
                    *run_check("hub", lambda: places.hub(offline)),
                ],
            ),
            make_section(f"model {model}", run_check("model", tried), ("found", "expected")),
        ),
    )
