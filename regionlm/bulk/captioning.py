"""Caption all regions of a manifest.

Torch and Lightning are imported only after the manifest and the output have been checked.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regionlm.bulk.items import Pictures, is_bad
from regionlm.bulk.manifest import Manifest
from regionlm.bulk.output import Summary, write_output
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
    trunk: Mapping[str, Any] | None = None,
    device: str = "auto",
    devices: int = 1,
    workers: int = 1,
    skip_bad: bool = False,
    progress: bool = True,
    **decoding: Any,
) -> Summary:
    """Caption every region of many images, on any number of processes.

    The output has one line for each line of the manifest, in the same order: a JSON object of
    ``id``, ``image`` and ``regions``. ``regions`` is a list of objects of ``region`` (its id or
    name), ``caption``, ``logprob``, ``dice``, ``iou`` and ``cosine_to_image``, as in
    `RegionCaption`.

    The output appears at the end, as a whole. Until then finished lines are kept in the folder
    ``OUTPUT.parts``. A stopped run resumes when it is repeated with the same settings and model
    files, on any number of processes; lines with something unreadable are tried again. Neither the
    number of processes nor a stop changes a byte of the output: images are embedded one by one,
    with one thread per process unless OMP_NUM_THREADS is set.

    In a distributed run every process calls this, and all must see both files. With ``devices``
    above 1 Lightning starts the other processes, by running the program again with the same
    arguments.

    Args:
        manifest: as `regionlm.bulk.manifest` describes it.
        output: JSON lines file to write; must not exist.
        model, prefix, prompt, offline: as in `regionlm.auto.load_captioner`.
        embedder: a name in ``regionlm.embedders.EMBEDDERS``.
        embedder_options: options of the embedder.
        trunk: options of ``ClipViT.set_trunk``.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:N"`` (for one process) or ``"mps"``.
        devices: number of processes, each on a device (or CPU core) of its own.
        workers: threads per process that decode images.
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
    output = Path(output)
    parts = output.with_name(output.name + ".parts")
    _check(manifest, output, parts, devices, workers)
    opened = Manifest(manifest)
    request = _Request(
        model,
        prefix,
        prompt,
        offline,
        embedder,
        dict(embedder_options or {}),
        dict(trunk or {}),
        decoding,
    )
    from regionlm.distributed.predict_module import PredictModule
    from regionlm.distributed.trainer import new_trainer, predict_items

    trainer = new_trainer(*_machine(device, devices))
    settings = request.settings(opened)
    _refuse_finished(output, parts)  # another run may have finished while the model was read
    journal = Journal(parts, settings, is_bad)
    before = journal.done()
    pictures = Pictures(opened, skip_bad)
    module = PredictModule(
        pictures,
        request.load,
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

    return predict_items(trainer, module, finish, folder=parts)


@dataclass(frozen=True)
class _Request:
    """What writes the captions, and how; see `caption_manifest`."""

    model: str
    prefix: str | None
    prompt: str | None
    offline: bool
    embedder: str
    embedder_options: dict[str, Any]
    trunk: dict[str, Any]
    decoding: dict[str, Any]

    def settings(self, manifest: Manifest) -> dict[str, Any]:
        """All that the captions depend on, as JSON values."""
        from regionlm.pretrained.model_digests import model_digest, option_digests

        settings = asdict(self)
        del settings["offline"]
        if not self.trunk:  # as in runs begun before there was such an option
            del settings["trunk"]
        digests = {"model": model_digest(self.model), **option_digests(self.embedder_options)}
        return {**settings, "manifest": manifest.digest, "digests": digests}

    def load(self, device: torch.device) -> LineCaptions:
        """Load the models on a device."""
        from regionlm.auto import load_captioner
        from regionlm.bulk.captions import LineCaptions
        from regionlm.embedders.embedder_registry import make_embedder

        captioner = load_captioner(
            self.model, prefix=self.prefix, prompt=self.prompt, device=device, offline=self.offline
        )
        if self.trunk:
            captioner.backbone.set_trunk(**self.trunk)
        embedder = make_embedder(self.embedder, captioner.backbone, **self.embedder_options)
        return LineCaptions(captioner, embedder, self.decoding)


def _check(manifest: str | Path, output: Path, parts: Path, devices: int, workers: int) -> None:
    for name, value, least in (("devices", devices, 1), ("workers", workers, 0)):
        if value < least:
            raise InputError(f"{name}: expected at least {least}, found {value}")
    check_writable(output, inputs=[manifest])
    _refuse_finished(output, parts)
    require("bulk", "lightning", "pycocotools")


def _refuse_finished(output: Path, parts: Path) -> None:
    if output.exists() and not parts.exists():  # with parts: stopped before removing them
        raise InputError(
            f"output {output} exists already: delete it to start anew, or give another name"
        )


def _machine(device: str, devices: int) -> tuple[str, int | list[int]]:
    """Accelerator and devices, as Lightning names them."""
    from regionlm.devices import resolve_device

    found = resolve_device(device)
    if found.type == "cpu" or found.index is None:
        return found.type, devices
    if devices != 1:
        raise InputError(
            f"devices: expected 1 with --device {device}, found {devices}; give --device"
            f" {found.type}, or leave --device out"
        )
    return found.type, [found.index]
