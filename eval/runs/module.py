"""Lightning's part: images to processes, answers to the journal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from eval.datasets.base import RegionDataset
from eval.datasets.sample import Sample
from eval.errors import DataError
from eval.runs.journal import Answer, Journal, JournalWriter
from eval.tasks.task import Task
from regionlm.errors import InputError

Item = tuple[int, str, Sample | str]  # index, image id, and the sample or why there is none


class NumberedSamples(Dataset):
    """Samples with their numbers; with `skip_bad`, a message in place of one that can't be read."""

    def __init__(self, dataset: RegionDataset, skip_bad: bool) -> None:
        self.dataset, self.skip_bad = dataset, skip_bad

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Item:
        name = self.dataset.id_of(index)
        try:
            return index, name, self.dataset[index]
        except (DataError, InputError) as error:
            if not self.skip_bad:
                raise
            return index, name, " ".join(str(error).split())


class Share(Sampler):
    """The images of one process that are not done: every `world`-th, so none is seen twice.

    An image's number alone says whose it is. So it does not matter if other processes are already
    writing when this one looks up what is done, and no image is added to make shares equal.
    """

    def __init__(self, size: int, done: Sequence[int], rank: int, world: int) -> None:
        finished = set(done)
        self.numbers = [i for i in range(rank, size, world) if i not in finished]

    def __iter__(self) -> Iterator[int]:
        return iter(self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)


class AnswerModule(L.LightningModule):
    """Asks a task about every image of a dataset and keeps the answers.

    Args:
        make_task: what is asked, made on the device that a process is given.
        dataset: about which images.
        journal: where answers go, and which are there already.
        workers: processes that decode images, for each process that embeds.
        skip_bad: count images that can't be read instead of stopping at them.
    """

    def __init__(
        self,
        make_task: Callable[[torch.device], Task],
        dataset: RegionDataset,
        journal: Journal,
        *,
        workers: int = 0,
        skip_bad: bool = False,
    ) -> None:
        super().__init__()
        self.make_task, self.dataset, self.journal = make_task, dataset, journal
        self.workers, self.skip_bad = workers, skip_bad
        self._task: Task | None = None
        self._writer: JournalWriter | None = None

    def predict_dataloader(self) -> DataLoader:
        """One image at a time: an answer then does not depend on which images were its company."""
        done, world = list(self.journal.answers()), self.trainer.world_size
        share = Share(len(self.dataset), done, self.global_rank, world)
        samples = NumberedSamples(self.dataset, self.skip_bad)
        return DataLoader(samples, batch_size=None, sampler=share, num_workers=self.workers)

    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        """Samples stay as they are; the embedder moves what it needs."""
        return batch

    def on_predict_start(self) -> None:
        """Load the models where they are to run and open this process's file."""
        self._task = self.make_task(self.device)
        self._writer = self.journal.writer(self.global_rank)

    def predict_step(self, batch: Item, batch_idx: int) -> None:
        """Answer for one image and write it down."""
        assert self._task is not None and self._writer is not None
        index, name, sample = batch
        if isinstance(sample, str):
            answer = Answer(index, name, [], bad=sample)
        else:
            answer = Answer(index, name, self._task.answer(sample) if sample.texts else [])
        self._writer.write(answer)

    def on_predict_end(self) -> None:
        """Close it."""
        if self._writer is not None:
            self._writer.close()
