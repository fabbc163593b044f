"""Digests of the files behind a run, so that it is not resumed with other files."""

from __future__ import annotations

from eval.run_settings import ModelSource, Run
from regionlm.datasets.data_errors import DataError
from regionlm.datasets.region_dataset import RegionDataset
from regionlm.pretrained.file_digests import files_digest
from regionlm.pretrained.model_digests import model_digest, option_digests, path_digest


def run_digests(run: Run, dataset: RegionDataset) -> dict[str, str]:
    """Return digests of the files that a run uses, by what they are for.

    They cover the dataset's annotations, and models, checkpoints and SAMs that are files or folders
    on this machine. Images and label maps, which are too many, and models on the hub are left out.

    Raises:
        DataError: a model has no name. InputError: a file can't be read.
    """
    found = {"data": files_digest(dataset.annotations), "model": _model("model", run.model)}
    if run.judge is not None and run.task == "captioning":
        found["judge"] = _model("judge", run.judge)
    if run.masks == "box_sam":
        found["sam"] = path_digest(_named("sam", run.sam.name))
    found |= option_digests(run.embedder.options)
    return {name: digest for name, digest in found.items() if digest}


def _model(what: str, model: ModelSource) -> str:
    name = _named(what, model.name)
    return model_digest(name) if model.pretrained is None else path_digest(model.pretrained)


def _named(what: str, name: object) -> str:
    """Return a model's name; DataError if it was left out."""
    if not isinstance(name, str) or not name:
        raise DataError(f"{what}.name: expected the name or folder of a model, found {name!r}")
    return name
