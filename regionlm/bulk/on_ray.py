"""Captions of a manifest on a Ray cluster, as a pipeline of Ray Data.

    read and decode (tasks) -> encode, invert and caption (actors) -> write shards (tasks)

What makes a record is that of the other way, `regionlm.bulk.on_lightning`, and so is the journal: a
run that one began may be ended by the other. Encoding, inverting and captioning are one stage since
they share a device: two would hold two copies of the model, and send vectors back and forth.
"""

from __future__ import annotations

import gc
import logging
import os
import pickle
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from traceback import clear_frames

import numpy as np

from prefix_models.errors import kind_and_line
from regionlm.bulk.output import Summary
from regionlm.bulk.ray_stages import Caption, Decode, Row, Write
from regionlm.bulk.work import Work
from regionlm.distributed.items import USERS_ERRORS
from regionlm.distributed.ray_cluster import check_devices, connected, takes_gpus
from regionlm.distributed.run_folder import held
from regionlm.distributed.signals import StopSignals
from regionlm.distributed.thread_counts import prediction_threads
from regionlm.errors import InputError
from regionlm.extras import extra

with extra("ray"):
    import ray.data
    from ray.exceptions import RayError, RayTaskError
    from tqdm import tqdm

_READ_AT_ONCE = 16  # lines of a task; more only where there would be too many tasks
_MOST_TASKS = 10_000
_SHARD = 64  # lines written at once: what a killed run does again, for each of its writers


class RayMachines:
    """As `regionlm.bulk.work.Machines`; see `regionlm.bulk.caption_manifest` for the arguments.

    Args:
        address: of the cluster; True takes one that runs, or starts one.

    Raises InputError: a device that Ray doesn't hand out.
    """

    def __init__(self, address: bool | str, device: str, *, devices: int, workers: int) -> None:
        if device not in ("auto", "cpu", "cuda"):
            raise InputError(
                f"device: expected auto, cpu or cuda with Ray, which chooses the device; found"
                f" {device}"
            )
        self._address, self._device = address, device
        self._devices, self._workers = devices, max(workers, 1)

    def caption(self, work: Work, finish: Callable[[float], Summary]) -> Summary:
        """Caption the lines that the journal lacks; this process finishes the run."""
        journal = work.journal
        with held(journal.folder), StopSignals(lambda: True, _interrupt) as signals:
            try:
                journal.start_again()
                done = journal.done()
                numbers = np.setdiff1d(np.arange(len(work.pictures)), done)
                started = time.monotonic()
                if len(numbers):
                    # Ray says on standard output which workers it has lost.
                    with redirect_stdout(sys.stderr), connected(self._address), _quiet():
                        signals.install()  # Ray has put its own in their place
                        self._caption(work, numbers)
                return finish(started)
            except BaseException as error:
                if isinstance(error, (*USERS_ERRORS, KeyboardInterrupt)):
                    journal.discard_if_empty()
                raise

    def _caption(self, work: Work, numbers: np.ndarray) -> None:
        size = len(work.pictures)
        bar = tqdm(
            total=size,
            initial=size - len(numbers),
            desc="captions",
            unit=" images",
            dynamic_ncols=True,
            disable=not work.progress,
            mininterval=0.5 if sys.stderr.isatty() else 30,  # fewer lines in a log file
        )
        with bar, _words_of_ray(), _ended(self._pipeline(work, numbers).iter_rows()) as rows:
            for row in rows:
                if row["error"]:
                    bar.leave = not sys.stderr.isatty()  # the message takes its place
                    raise pickle.loads(row["error"])
                bar.update()

    def _pipeline(self, work: Work, numbers: np.ndarray) -> ray.data.Dataset:
        """A row for each line, with an error or none; whoever takes them runs the pipeline.

        Captioning may hold every CPU that Ray counts; so the tasks around it ask for none.
        """
        gpus, folder = takes_gpus(self._device), os.getcwd()
        check_devices(self._devices, gpus)
        size = min(_READ_AT_ONCE, -(-len(numbers) // (4 * self._devices)))
        size = max(size, -(-len(numbers) // _MOST_TASKS))
        starts = range(0, len(numbers), size)
        tasks = [{"start": start, "stop": start + size} for start in starts]
        decode = Decode(work.pictures, numbers, folder)
        read = ray.data.from_items(tasks, override_num_blocks=len(tasks)).map_batches(
            decode,  # type: ignore[arg-type]
            batch_size=1,
            compute=ray.data.TaskPoolStrategy(self._workers * self._devices),
            num_cpus=0,
        )
        device = "cuda" if gpus else "cpu"
        captions = read.map(
            Caption,  # type: ignore[arg-type]
            fn_constructor_args=(
                work.request, work.pictures, device, prediction_threads(), folder,
            ),
            compute=ray.data.ActorPoolStrategy(size=self._devices),
            num_gpus=1 if gpus else None,
            num_cpus=0 if gpus else 1,
        )  # fmt: skip
        shard = min(_SHARD, max(1, len(numbers) // (4 * self._devices)))
        return captions.map_batches(
            Write(work.journal, folder),  # type: ignore[arg-type]
            batch_size=shard,
            compute=ray.data.TaskPoolStrategy(self._devices),
            num_cpus=0,
        )


def _interrupt() -> None:
    raise KeyboardInterrupt("stopped; repeat the command to resume")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the progress bars and notices of Ray Data: there is a bar of ours."""
    context, log = ray.data.DataContext.get_current(), logging.getLogger("ray.data")
    before = context.enable_progress_bars, log.level
    context.enable_progress_bars = False
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        context.enable_progress_bars = before[0]
        log.setLevel(before[1])


@contextmanager
def _ended(rows: Iterable[Row]) -> Iterator[Iterator[Row]]:
    """Rows of a pipeline that ends with the block, not when Python happens to drop it.

    What is left of it would fail, loudly, when the cluster is gone.
    """
    running = iter(rows)
    try:
        yield running
    except BaseException as error:
        clear_frames(error.__traceback__)  # which hold it, too
        raise
    finally:
        close = getattr(running, "close", None)  # the caller has it, too
        if close is not None:
            close()
        del running
        gc.collect()


@contextmanager
def _words_of_ray() -> Iterator[None]:
    """Say in one line that the cluster failed; what was raised in a worker is a fault of ours."""
    try:
        yield
    except RayTaskError:
        raise
    except RayError as error:
        raise InputError(
            f"ray: the cluster failed ({kind_and_line(error)}); repeat the command to resume"
        ) from error
