"""All checks in a row."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from regionlm.doctor import machine, places
from regionlm.doctor.checks import make_section, run_check
from regionlm.doctor.diagnosis import Diagnosis, Row
from regionlm.doctor.package_versions import extras, own_version, versions
from regionlm.errors import InputError

_DEVICES = re.compile(r"auto|cpu|cuda(:\d+)?|mps(:0)?")


def examine(
    model: str | Path = "mini", *, device: str = "auto", offline: bool = False
) -> Diagnosis:
    """Look at versions, extras, machine, folders and hub, and try a model out on a known image.

    Nothing is changed or written but what loading a model from the hub keeps there.

    Args:
        model: the bundled model, of which the caption of that image is known too; a preset, the
            folder or hub id of a bundle or of a LLaVA.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"mps"``.
        offline: use files of this machine only, and do not ask whether the hub answers.

    Returns:
        The report. What is wrong is in its `faults`: a package that is missing or too old, a device
        that is not there, a model that can't be loaded or does not do what it should.

    Raises:
        InputError: no name of a device.
    """
    if not _DEVICES.fullmatch(device):
        raise InputError(f"device must be auto, cpu, cuda, cuda:N or mps, got {device!r}")

    def tried() -> Iterator[Row]:
        from regionlm.doctor.model_check import examine_model  # which needs all that may be missing

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
