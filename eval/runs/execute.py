"""Carry out a run: `Run` in, a folder of results out."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict
from typing import Any

import lightning as L
import torch

from eval.datasets import open_dataset
from eval.datasets.base import RegionDataset
from eval.errors import DataError
from eval.paper import paper_figures
from eval.runs.build import build_task
from eval.runs.journal import Journal
from eval.runs.module import AnswerModule
from eval.runs.report import RESULT, write_results
from eval.settings import Machines, Run
from eval.tasks import METRICS, Task


def evaluate(run: Run) -> dict[str, Any]:
    """Ask a task about every image of a dataset, on as many processes as asked for.

    Every process of a distributed run calls it; all must see ``run.output``.

    Returns:
        What result.json holds, on every process.

    Raises:
        DataError, InputError, ModelError, PrefixModelError: settings or files that can't be used.
    """
    data = run.data
    dataset = open_dataset(data.name, data.root, data.split, limit=run.limit, **data.options)
    settings = _settings(run, dataset)
    journal = Journal(run.output, settings)

    def make_task(device: torch.device) -> Task:
        return build_task(run, dataset, device)

    module = AnswerModule(
        make_task, dataset, journal, workers=run.data.workers, skip_bad=run.skip_bad
    )
    machines = _trainer(run.trainer)
    with warnings.catch_warnings():
        for expected in (".*returned None.*", ".*does not have many workers.*"):
            warnings.filterwarnings("ignore", message=expected)
        machines.predict(module, return_predictions=False)
    machines.strategy.barrier()
    if machines.is_global_zero:
        _finish(journal, settings)
    machines.strategy.barrier()
    return json.loads((run.output / RESULT).read_text(encoding="utf-8"))


def _settings(run: Run, dataset: RegionDataset) -> dict[str, Any]:
    """Everything that the answers depend on, as it comes back from a JSON file."""
    settings = asdict(run)
    for name in ("output", "trainer", "skip_bad", "sweep"):
        del settings[name]
    del settings["data"]["workers"]
    settings["image_count"] = len(dataset)
    return json.loads(json.dumps(settings, default=str))


def _finish(journal: Journal, settings: dict[str, Any]) -> None:
    answers = list(journal.answers().values())
    if len(answers) != settings["image_count"]:
        raise DataError(
            f"{journal.folder}: expected answers for {settings['image_count']} images, found"
            f" {len(answers)}; do all processes see this folder?"
        )
    metrics = METRICS[settings["task"]]([answer.records for answer in answers if answer.records])
    names = (settings[part]["name"] for part in ("data", "model", "embedder"))
    write_results(
        journal.folder, answers, metrics, paper_figures(settings["task"], *names), settings
    )


def _trainer(machines: Machines) -> L.Trainer:
    alone = machines.devices * machines.num_nodes == 1
    return L.Trainer(
        accelerator=machines.accelerator,
        devices=machines.devices,
        num_nodes=machines.num_nodes,
        strategy="ddp" if machines.strategy == "auto" and not alone else machines.strategy,
        use_distributed_sampler=False,  # it would repeat images to make shares equal
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=machines.progress,
    )
