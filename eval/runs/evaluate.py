"""Run an evaluation: from its settings to a folder of results."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from eval.degrade import make_degradation
from eval.paper import paper_figures
from eval.run_settings import Run
from eval.runs.build import build_task, check_models
from eval.runs.check import check_run
from eval.runs.results import ImageAnswer, write_results
from eval.runs.run_digests import run_digests
from eval.tasks import METRICS, TEMPLATES
from prefix_models.errors import within
from regionlm.backbones.trunk_options import AS_USUAL
from regionlm.backbones.trunk_run import check_trunk
from regionlm.datasets import open_dataset
from regionlm.datasets.data_errors import DataError
from regionlm.datasets.region_dataset import RegionDataset
from regionlm.datasets.sample import Sample
from regionlm.distributed.journal import Journal
from regionlm.distributed.predict_module import PredictModule
from regionlm.distributed.rank import note_rank
from regionlm.distributed.thread_counts import prediction_threads
from regionlm.distributed.trainer import new_trainer, predict_items
from regionlm.errors import InputError

if TYPE_CHECKING:
    from lightning import Trainer


@dataclass(frozen=True)
class PreparedRun:
    """A run whose settings and files were checked; nothing has been loaded or written yet.

    Args:
        run: its settings.
        dataset: its images.
        settings: everything that its answers depend on, as JSON values.
    """

    run: Run
    dataset: RegionDataset
    settings: dict[str, Any]

    def open_journal(self) -> Journal:
        """Open the output folder; InputError if it holds another run or other files."""
        return Journal(self.run.output, self.settings, lambda answer: answer["bad"] is not None)


def evaluate(run: Run) -> dict[str, Any]:
    """Run a task on every image of a dataset, on as many processes as the settings say.

    Every process of a distributed run calls this; all must be able to see ``run.output``.

    Returns:
        The content of result.json, on every process.

    Raises:
        DataError, InputError, ModelError, PrefixModelError: settings or files that can't be used.
    """
    if run.sweep:
        raise DataError("sweep: expected none in a single run; use eval.runs.sweep.evaluate_sweep")
    note_rank()
    (prepared,) = prepare([run])
    return carry_out(prepared)


def prepare(runs: Sequence[Run]) -> list[PreparedRun]:
    """Check runs as far as possible without loading models, and open their datasets.

    Runs on the same data share one dataset.

    Raises:
        DataError, InputError, ModelError, PrefixModelError: as `evaluate`.
    """
    for run in runs:
        check_run(run)
    opened: dict[str, RegionDataset] = {}
    prepared = []
    for run in runs:
        key = repr((run.data, run.limit, run.skip_bad))
        if key not in opened:
            opened[key] = open_dataset(
                run.data.name, run.data.root, run.data.split,
                limit=run.limit, allow_missing=run.skip_bad, **run.data.options,
            )  # fmt: skip
        settings = _settings(run, opened[key])
        if run.trunk != AS_USUAL:
            with within("trunk"):
                check_trunk(run.trunk, _trainer(run).strategy.root_device)
        check_models(run)
        prepared.append(PreparedRun(run, opened[key], settings))
    return prepared


def carry_out(prepared: PreparedRun) -> dict[str, Any]:
    """Answer the images that have no answer yet, and write the results; as `evaluate`."""
    run, dataset, settings = prepared.run, prepared.dataset, prepared.settings
    journal = prepared.open_journal()

    def load(device: torch.device) -> Callable[[int, Sample], dict[str, Any]]:
        degrade = make_degradation(run.masks, run.sam, device, run.mask_kernel)
        task = build_task(run, dataset, device)

        def answer(index: int, sample: Sample) -> dict[str, Any]:
            shown, replaced = degrade(sample.image, sample.masks) if sample.texts else (None, 0)
            records = task.answer(sample, shown) if sample.texts else []
            counts = _counts(run, sample, replaced)
            return asdict(ImageAnswer(dataset.id_of(index), records, counts=counts))

        return answer

    def unreadable(index: int, error: InputError) -> dict[str, Any]:
        return asdict(ImageAnswer(dataset.id_of(index), [], bad=" ".join(str(error).split())))

    module = PredictModule(
        dataset,
        load,
        journal,
        workers=run.data.workers,
        unreadable=unreadable if run.skip_bad else None,
        progress=run.trainer.progress,
    )
    trainer = _trainer(run)
    machine = _machine(run, trainer.strategy.root_device)
    finish = partial(_finish, journal, settings, machine)
    return predict_items(trainer, module, finish, folder=run.output)


def _trainer(run: Run) -> Trainer:
    where = run.trainer
    return new_trainer(
        where.accelerator, where.devices, num_nodes=where.num_nodes, strategy=where.strategy
    )


def _settings(run: Run, dataset: RegionDataset) -> dict[str, Any]:
    """Return everything that the answers depend on, as JSON values."""
    settings = asdict(run)
    for name in ("output", "trainer", "skip_bad", "sweep"):
        del settings[name]
    del settings["data"]["workers"]
    settings["data"]["split"] = dataset.split  # instead of null
    settings["trunk"] = run.trunk.chosen
    if not settings["trunk"]:  # as in runs begun before there was such an option
        del settings["trunk"]
    if run.masks != "box_sam":
        del settings["sam"]
    if run.masks not in ("erosion", "dilation"):
        del settings["mask_kernel"]
    _keep_what_is_read(settings)
    settings["digests"] = run_digests(run, dataset)
    settings["image_count"] = len(dataset)
    return json.loads(json.dumps(settings, default=str))


def _keep_what_is_read(settings: dict[str, Any]) -> None:
    """Leave out settings that the task does not read, and fill in its own prompt for null."""
    if settings["task"] == "captioning":
        del settings["template"]
        unread = [settings["judge"]]
    else:
        for name in ("judge", "decoding", "clipscore"):
            del settings[name]
        unread = [settings["model"]]
        if settings["template"] is None:
            settings["template"] = TEMPLATES[settings["task"]]
    for model in unread:
        if model is not None:
            del model["prefix"]  # only its backbone is used


def _counts(run: Run, sample: Sample, replaced: int) -> dict[str, int]:
    """Count what result.json reports besides images and queries, for one image."""
    different = len(set(sample.texts))
    of_expressions = {
        "duplicate_texts": len(sample.texts) - different,
        "single_text_images": int(different == 1),
    }
    return {
        "dropped": len(sample.dropped),
        "resized_images": int("annotated_size" in sample.tags),
        **(of_expressions if run.task != "classes" else {}),
        "replaced_masks": replaced,
    }


def _machine(run: Run, device: torch.device) -> dict[str, Any]:
    """Return where and how the run was last started; no answer depends on it."""
    found = asdict(run.trainer)
    del found["progress"]
    return {
        **found,
        "device": device.type,
        "threads": prediction_threads(),
        "workers": run.data.workers,
        "skip_bad": run.skip_bad,
    }


def _finish(journal: Journal, settings: dict[str, Any], machine: dict[str, Any]) -> dict[str, Any]:
    answers = [ImageAnswer(**answer) for _, answer in journal.answers()]
    if len(answers) != settings["image_count"]:
        raise DataError(
            f"{journal.folder}: expected answers for {settings['image_count']} images, found"
            f" {len(answers)}; can all processes see this folder?"
        )
    if not any(answer.records for answer in answers):
        bad = [answer.bad for answer in answers if answer.bad is not None]
        raise DataError(
            f"{settings['data']['name']}: nothing to measure in {len(answers)} images, of which"
            f" {len(bad)} could not be read" + (f"; the first: {bad[0]}" if bad else "")
        )
    metrics = METRICS[settings["task"]]([answer.records for answer in answers if answer.records])
    paper = paper_figures(settings)
    return write_results(journal.folder, answers, metrics, paper, settings, machine)
