"""Which files a run's answers come from: a finished run is not one of other files."""

from __future__ import annotations

from pathlib import Path

from eval.datasets.base import RegionDataset
from eval.settings import ModelSource, Run
from regionlm.bundle import MINI
from regionlm.digests import file_digest, files_digest, folder_digest
from regionlm.presets import PRESETS, models_folder


def run_digests(run: Run, dataset: RegionDataset) -> dict[str, str]:
    """Digests of what lies on this machine, by what it is for.

    Of the dataset's annotations; of models, checkpoints and SAMs that are files or folders. Not of
    pictures and label maps, which are too many, nor of what a hub's name stands for.

    Raises:
        InputError: a file can't be read.
    """
    found = {"data": files_digest(dataset.annotations), "model": _model(run.model)}
    if run.judge is not None and run.task == "captioning":
        found["judge"] = _model(run.judge)
    if run.masks == "box_sam":
        found["sam"] = _path(run.sam.name)
    for name, value in run.embedder.options.items():
        if isinstance(value, str | Path) and Path(value).is_file():
            found[f"embedder.{name}"] = _path(value)
    return {name: digest for name, digest in found.items() if digest}


def _model(model: ModelSource) -> str:
    if model.pretrained is not None:
        return _path(model.pretrained)
    if model.name == "mini":
        return _path(MINI)
    return _path(models_folder() / model.name if model.name in PRESETS else model.name)


def _path(value: str | Path) -> str:
    """Of a file or folder; "" for anything else, such as a tag or a hub id."""
    path = Path(value)
    if path.is_dir():
        return folder_digest(path)
    return file_digest(path)[:16] if path.is_file() else ""
