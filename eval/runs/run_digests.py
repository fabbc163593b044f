"""Which files a run's answers come from: a finished run is not one of other files."""

from __future__ import annotations

from eval.run_settings import ModelSource, Run
from regionlm.datasets.data_errors import DataError
from regionlm.datasets.region_dataset import RegionDataset
from regionlm.pretrained.file_digests import files_digest
from regionlm.pretrained.model_digests import model_digest, option_digests, path_digest


def run_digests(run: Run, dataset: RegionDataset) -> dict[str, str]:
    """Digests of what lies on this machine, by what it is for.

    Of the dataset's annotations; of models, checkpoints and SAMs that are files or folders. Not of
    pictures and label maps, which are too many, nor of what a hub's name stands for.

    Raises:
        DataError: a model without a name. InputError: a file can't be read.
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
    """A name that YAML or Python may have left out."""
    if not isinstance(name, str) or not name:
        raise DataError(f"{what}.name: expected the name or folder of a model, found {name!r}")
    return name
