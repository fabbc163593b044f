"""Caption all regions of a manifest.

Torch, Lightning and Ray are imported only after the manifest and the output have been checked.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regionlm.backbones.trunk_options import TrunkOptions
from regionlm.bulk.items import Pictures, is_bad
from regionlm.bulk.opening import open_manifest
from regionlm.bulk.output import Summary, is_parquet, write_output
from regionlm.bulk.request import Request
from regionlm.bulk.work import Machines, Work
from regionlm.distributed.journal import Journal
from regionlm.errors import InputError
from regionlm.extras import require
from regionlm.files import check_writable


def caption_manifest(
    manifest: str | Path,
    output: str | Path,
    *,
    model: str = "mini",
    prefix: str | None = None,
    prompt: str | None = None,
    offline: bool = False,
    embedder: str = "maskinversion",
    embedder_options: Mapping[str, Any] | None = None,
    trunk: Mapping[str, Any] | None = None,
    device: str = "auto",
    devices: int = 1,
    workers: int = 1,
    ray: bool | str = False,
    skip_bad: bool = False,
    progress: bool = True,
    **decoding: Any,
) -> Summary:
    """Caption every region of many images, on any number of processes.

    The output has one line for each line of the manifest, in the same order: a JSON object of
    ``id``, ``image`` and ``regions``. ``regions`` is a list of objects of ``region`` (its id or
    name), ``caption``, ``logprob``, ``dice``, ``iou`` and ``cosine_to_image``, as in
    `RegionCaption`. In Parquet, a line is a row, and what an object lacks is null.

    The output appears at the end, as a whole. Until then finished lines are kept in the folder
    ``OUTPUT.parts``. A stopped run resumes when it is repeated with the same settings and model
    files, on any number of processes, with or without Ray; lines with something unreadable are
    tried again. Neither the number of processes, nor Ray, nor a stop changes a byte of the output:
    images are embedded one by one, with one thread per process unless OMP_NUM_THREADS is set.

    In a distributed run every process calls this, and all must see both files. With ``devices``
    above 1 Lightning starts the other processes, by running the program again with the same
    arguments. With ``ray``, one process calls this, and the workers of a Ray cluster do the work,
    and see both files under the same names; a lost worker's lines are done again by another.

    Args:
        manifest: JSON lines as `regionlm.bulk.manifest` describes them; or tar files
            (`regionlm.bulk.tars`) or Parquet (`regionlm.bulk.parquet`), by the ending of the name,
            which may be a pattern.
        output: file to write, Parquet if its name ends in ``.parquet``, else JSON lines; must not
            exist.
        model, prefix, prompt, offline: as in `regionlm.auto.load_captioner`.
        embedder: a name in ``regionlm.embedders.EMBEDDERS``.
        embedder_options: options of the embedder.
        trunk: options of ``ClipViT.set_trunk``.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:N"`` (for one process) or ``"mps"``.
        devices: number of processes, each on a device (or CPU core) of its own.
        workers: threads per process that decode images; with Ray, tasks for each device.
        ray: run on a Ray cluster, with this address; True takes the one of RAY_ADDRESS or of this
            machine if there is one, and else starts one here.
        skip_bad: write an ``error`` in place of an image or a region that can't be read, instead
            of stopping there.
        progress: show a progress bar on stderr.
        **decoding: options of ``ClipCap.generate``. Each region samples with its own seed, made of
            ``seed`` (default 0), the number of the line and the place of the region in it.

    Raises:
        InputError, ModelError, PrefixModelError: a line, file or option that can't be used; what
            is finished is kept.
        KeyboardInterrupt: SIGINT (Ctrl-C) or SIGTERM; what is finished is kept.
    """
    check_writable(output, inputs=[manifest])
    output = Path(output)
    parts = output.with_name(output.name + ".parts")
    _check(output, parts, devices=devices, workers=workers, ray=ray)
    opened = open_manifest(manifest, skip_bad=skip_bad)
    request = Request(
        model,
        prefix,
        prompt,
        offline,
        embedder,
        dict(embedder_options or {}),
        TrunkOptions.read(trunk or {}, "the trunk"),
        decoding,
    )
    machines = _machines(ray, device, devices, workers)
    settings = request.settings(opened)
    _refuse_finished(output, parts)  # another run may have finished while the model was read
    journal = Journal(parts, settings, is_bad)
    before = journal.done()

    def finish(started: float) -> Summary:
        summary = write_output(output, journal, opened, before)
        shutil.rmtree(parts, ignore_errors=True)  # the output is there: nothing is lost
        summary.seconds = time.monotonic() - started
        return summary

    work = Work(Pictures(opened, skip_bad), request, journal, progress)
    return machines.caption(work, finish)


def _check(
    output: Path,
    parts: Path,
    *,
    devices: int,
    workers: int,
    ray: bool | str,
) -> None:
    for name, value, least in (("devices", devices, 1), ("workers", workers, 0)):
        if value < least:
            raise InputError(f"{name}: expected at least {least}, found {value}")
    _refuse_finished(output, parts)
    if ray == "":
        raise InputError("ray: expected the address of a cluster, such as HOST:PORT, found ''")
    if is_parquet(output):
        require("bulk", "pyarrow")
    if ray:
        require("ray", "ray", "pyarrow", "tqdm", "pycocotools")
    else:
        require("bulk", "lightning", "pycocotools")


def _refuse_finished(output: Path, parts: Path) -> None:
    if output.exists() and not parts.exists():  # with parts: stopped before removing them
        raise InputError(
            f"output {output} exists already: delete it to start anew, or give another name"
        )


def _machines(ray: bool | str, device: str, devices: int, workers: int) -> Machines:
    if ray:
        from regionlm.bulk.on_ray import RayMachines

        return RayMachines(ray, device, devices=devices, workers=workers)
    from regionlm.bulk.on_lightning import LightningMachines

    return LightningMachines(device, devices=devices, workers=workers)
