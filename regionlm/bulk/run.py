"""Caption a manifest: the entry.

Lightning and torch are imported only after the manifest and the output have been checked.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regionlm.bulk.manifest import Manifest
from regionlm.bulk.output import Summary, write_output
from regionlm.bulk.pictures import Pictures, is_bad
from regionlm.distributed.journal import Journal
from regionlm.errors import InputError
from regionlm.extras import require
from regionlm.files import check_writable

if TYPE_CHECKING:
    import torch

    from regionlm.bulk.captions import LineCaptions


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
    device: str = "auto",
    devices: int = 1,
    workers: int = 1,
    skip_bad: bool = False,
    progress: bool = True,
    **decoding: Any,
) -> Summary:
    """Caption every region of many images, on any number of processes.

    The output has a line for each line of the manifest, in its order: a JSON object of ``id``,
    ``image`` and ``regions``, a list of objects of ``region`` (its id or name), ``caption``,
    ``logprob``, ``dice``, ``iou`` and ``cosine_to_image`` as in `RegionCaption`. It appears whole,
    at the end. Until then finished lines are in the folder ``OUTPUT.parts``: a run that was killed
    goes on from there when it is started again with the same settings and files of the model, on
    as many processes as you like; lines of which something could not be read are done again.
    Neither the number of processes nor a stop changes a byte of the output; images are embedded one
    by one and, unless OMP_NUM_THREADS says otherwise, with one thread a process.

    Every process of a distributed run calls this; all must see both files. With ``devices`` above
    1 Lightning starts the others, by running the program again with the same arguments.

    Args:
        manifest: as `regionlm.bulk.manifest` describes it.
        output: the JSON lines to write; must not exist.
        model, prefix, prompt, offline: as in `regionlm.auto.load_captioner`.
        embedder: a name in ``regionlm.embedders.EMBEDDERS``.
        embedder_options: its options.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:N"`` (one only) or ``"mps"``.
        devices: processes, each on a device (or CPU core) of its own.
        workers: threads that decode images, in each process.
        skip_bad: where an image can't be read, write ``id``, ``image`` and ``error`` in its line,
            where a region can't, ``region`` and ``error`` in its place, instead of stopping there.
        progress: show a bar on stderr.
        **decoding: options of ``ClipCap.generate``; each region samples with a seed of its own,
            made of ``seed`` (default 0), the line's number and the region's place in it.

    Raises:
        InputError, ModelError, PrefixModelError: a line, file or option that can't be used; what
            is finished is kept.
    """
    output = Path(output)
    parts = output.with_name(output.name + ".parts")
    _check(manifest, output, parts, devices, workers)
    opened = Manifest(manifest)
    from regionlm.distributed.predict_module import AnswerModule
    from regionlm.distributed.trainer import answer_all, new_trainer
    from regionlm.pretrained.model_digests import model_digest, option_digests

    trainer = new_trainer(*_machine(device, devices))
    options = dict(embedder_options or {})
    settings = {
        "manifest": opened.digest, "model": model, "prefix": prefix, "embedder": embedder,
        "embedder_options": options, "decoding": decoding, "prompt": prompt,
        "digests": {"model": model_digest(model), **option_digests(options)},
    }  # fmt: skip
    _refuse_finished(output, parts)  # by another run, while torch and the model were looked at
    journal = Journal(parts, settings, is_bad)
    before = journal.done()

    prepare = partial(
        _prepare, source=model, prefix=prefix, prompt=prompt, offline=offline, embedder=embedder,
        options=options, decoding=decoding,
    )  # fmt: skip
    pictures = Pictures(opened, skip_bad)
    module = AnswerModule(
        pictures,
        prepare,
        journal,
        workers=workers,
        unreadable=pictures.unreadable if skip_bad else None,
        progress=progress,
        named="captions",
    )

    def finish() -> Summary:
        summary = write_output(output, journal, opened, before)
        shutil.rmtree(parts, ignore_errors=True)  # the output is there: nothing is lost
        summary.seconds = time.monotonic() - module.started
        return summary

    return answer_all(trainer, module, finish, folder=parts)


def _prepare(
    device: torch.device,
    *,
    source: str,
    prefix: str | None,
    prompt: str | None,
    offline: bool,
    embedder: str,
    options: dict[str, Any],
    decoding: dict[str, Any],
) -> LineCaptions:
    from regionlm.auto import load_captioner
    from regionlm.bulk.captions import LineCaptions
    from regionlm.embedders.embedder_registry import make_embedder

    captioner = load_captioner(source, prefix=prefix, prompt=prompt, device=device, offline=offline)
    return LineCaptions(captioner, make_embedder(embedder, captioner.backbone, **options), decoding)


def _check(manifest: str | Path, output: Path, parts: Path, devices: int, workers: int) -> None:
    for name, value, least in (("devices", devices, 1), ("workers", workers, 0)):
        if value < least:
            raise InputError(f"{name}: expected at least {least}, found {value}")
    check_writable(output, inputs=[manifest])
    _refuse_finished(output, parts)
    require("bulk", "lightning", "pycocotools")


def _refuse_finished(output: Path, parts: Path) -> None:
    if output.exists() and not parts.exists():  # with parts: stopped just before it removed them
        raise InputError(
            f"output {output} exists, from a finished run or something else: delete it to start"
            " anew, or give another name"
        )


def _machine(device: str, devices: int) -> tuple[str, int | list[int]]:
    """Lightning's names of accelerator and devices."""
    from regionlm.devices import resolve_device

    found = resolve_device(device)
    if found.type == "cpu" or found.index is None:
        return found.type, devices
    if devices != 1:
        raise InputError(
            f"devices: expected 1 with the device {device}, found {devices}; ask for the device"
            f" {found.type}, or leave it out"
        )
    return found.type, [found.index]
