"""The LightningModule that hands items to processes and writes their answers."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from tqdm import tqdm

from regionlm.distributed.items import USERS_ERRORS, Items, Read, answer_to, read_item
from regionlm.distributed.journal import Answer
from regionlm.errors import InputError
from regionlm.extras import extra

with extra("bulk"):
    import lightning as L


class AnswerWriter(Protocol):
    """Writes the answers of one process, in the order of its items."""

    def write(self, number: int, answer: Answer) -> None:
        """Write an answer. Raises InputError: the file is not writable."""
        ...

    def close(self) -> None:
        """Finish writing."""
        ...


class AnswerStore(Protocol):
    """Stores the answers of a run; see `regionlm.distributed.journal.Journal`."""

    folder: Path

    def done(self) -> np.ndarray:
        """Numbers of the finished items."""
        ...

    def writer(self, process: int) -> AnswerWriter:
        """The writer of the process of this number."""
        ...

    def ask_to_stop(self) -> None:
        """Tell all processes of the run to stop at their next item."""
        ...

    def start_again(self) -> None:
        """Undo `ask_to_stop`, and drop the answers of items that could not be read.

        Raises InputError: the folder is not writable.
        """
        ...

    @property
    def stopped(self) -> bool:
        """Whether a process has asked all to stop."""
        ...

    def discard_if_empty(self) -> None:
        """Remove the files of a run without answers."""
        ...


class Share:
    """The items that one process still has to do: every `world`-th one, so none is done twice.

    The process of an item follows from its number alone. Therefore other processes may already be
    writing when this one looks up what is done, and no item is repeated to make shares equal.

    Args:
        size: number of items in the whole run.
        done: numbers of finished items, int64 ``[N]``.
        rank, world: number of this process, and of all processes.
        stop: called before each item; True ends the share.
        block: number of neighbouring items that stay in one process.
    """

    def __init__(
        self,
        size: int,
        done: np.ndarray,
        rank: int,
        world: int,
        stop: Callable[[], bool] = lambda: False,
        block: int = 1,
    ) -> None:
        numbers = np.arange(size)
        self.numbers = np.setdiff1d(numbers[numbers // block % world == rank], done)
        self.stop = stop

    def __iter__(self) -> Iterator[int]:
        for number in self.numbers:
            if self.stop():
                return
            yield int(number)

    def __len__(self) -> int:
        return len(self.numbers)


class ReadAhead:
    """The items of a share, in order, read ahead by threads.

    Threads rather than worker processes: a process forked beside the threads of torch and gloo may
    never wake up (seen with Python 3.11), and decoding an image releases the interpreter lock.

    Args:
        items: what is read.
        share: which items, in which order.
        threads: number of reading threads; with 0, items are read when asked for.
    """

    def __init__(self, items: Items, share: Share, threads: int) -> None:
        self.items, self.share, self.threads = items, share, threads

    def __iter__(self) -> Iterator[Read]:
        read = partial(read_item, self.items)
        if not self.threads:
            yield from map(read, self.share)
            return
        with ThreadPoolExecutor(self.threads, thread_name_prefix="read") as pool:
            numbers = iter(self.share)
            begun = deque(pool.submit(read, n) for n in islice(numbers, 2 * self.threads))
            while begun:
                yield begun.popleft().result()
                begun.extend(pool.submit(read, number) for number in islice(numbers, 1))


class PredictModule(L.LightningModule):
    """Computes an answer for each item, and stores it.

    An error in the user's input must not end one process while the others wait for it. It is kept
    in ``error``, all processes stop at their next item, and `regionlm.distributed.trainer` raises
    it in all of them.

    Args:
        items: what to process.
        prepare: loads the models on the device of the process, and returns a function from the
            number of an item and the item to its answer.
        journal: stores the answers, and knows which are there already.
        workers: threads per process that read items.
        unreadable: makes the answer for an item that can't be read; None stops the run there.
        progress: show a progress bar.
        block: see `Share`.
        images_per_item: unit of the progress bar.
        named: name of the run in the progress bar; by default that of the journal's folder.
    """

    def __init__(
        self,
        items: Items,
        prepare: Callable[[torch.device], Callable[[int, Any], Answer]],
        journal: AnswerStore,
        *,
        workers: int = 0,
        unreadable: Callable[[int, InputError], Answer] | None = None,
        progress: bool = True,
        block: int = 1,
        images_per_item: int = 1,
        named: str = "",
    ) -> None:
        super().__init__()
        self.items, self.prepare, self.journal = items, prepare, journal
        self.workers, self.unreadable, self.progress = workers, unreadable, progress
        self.block, self.images_per_item = block, images_per_item
        self.named = named or journal.folder.name
        self.threads: int | None = None
        """Number of threads to compute with; None leaves it as it is."""
        self.error: BaseException | None = None
        self.started = time.monotonic()
        """Time at which the models were loaded, by `time.monotonic`."""
        self._answer: Callable[[int, Any], Answer] | None = None
        self._writer: AnswerWriter | None = None
        self._bar: tqdm | None = None
        self._share: Share | None = None
        self._parent = os.getppid()

    def setup(self, stage: str) -> None:
        """Forget the stop and the unreadable items of an earlier start, before anyone begins."""
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        if self.trainer.is_global_zero:
            try:
                self.journal.start_again()
            except USERS_ERRORS as error:
                self._stop(error)
        self.trainer.strategy.barrier()

    def predict_dataloader(self) -> ReadAhead:
        """One item at a time, so that an answer does not depend on the other items of a batch.

        This is no DataLoader: Lightning warns about a DataLoader without workers, and about an
        empty one, which a process has when all its items are done.
        """
        self._share = Share(
            len(self.items),
            self.journal.done(),
            self.global_rank,
            self.trainer.world_size,
            self._should_stop,
            self.block,
        )
        return ReadAhead(self.items, self._share, self.workers)

    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        """Leave items where they are; the embedder moves what it needs."""
        return batch

    def on_predict_start(self) -> None:
        """Load the models on their device, and open the file of this process."""
        if self.error is not None:  # from `setup`, or an interrupt before it
            self.journal.ask_to_stop()
            return
        if not self._share:  # all done by earlier starts
            return
        try:
            self._answer = self.prepare(self.device)
            self._writer = self.journal.writer(self.global_rank)
        except USERS_ERRORS as error:
            self._stop(error)
            return
        self.started = time.monotonic()
        self._bar = self._new_bar(len(self._share))

    def predict_step(self, batch: Read, batch_idx: int) -> int:
        """Answer for one item; returns its number, since Lightning warns about None."""
        if self.error is not None:  # an item that was read ahead
            return batch.number
        assert self._answer is not None and self._writer is not None and self._bar is not None
        number = batch.number
        try:
            self._writer.write(number, answer_to(batch, self._answer, self.unreadable))
        except USERS_ERRORS as error:
            self._stop(error)
            if sys.stderr.isatty():
                self._bar.leave = False  # the error message takes its place
            return number
        self._bar.update()
        return number

    def on_predict_end(self) -> None:
        """Close the file and the progress bar."""
        for opened in (self._writer, self._bar):
            if opened is not None:
                opened.close()

    def interrupt(self) -> None:
        """Stop all processes at their next item, with a KeyboardInterrupt as `error`."""
        self._stop(KeyboardInterrupt("stopped; repeat the command to resume"))

    def _stop(self, error: BaseException) -> None:
        self.error = error
        self.journal.ask_to_stop()

    def _should_stop(self) -> bool:
        # If the first process, which started the others, is killed, nothing else would stop them.
        if self.local_rank and os.getppid() != self._parent:
            raise KeyboardInterrupt
        return self.journal.stopped

    def _new_bar(self, left: int) -> tqdm:
        world, name = self.trainer.world_size, self.named
        share = len(Share(len(self.items), np.empty(0), self.global_rank, world, block=self.block))
        shown = self.progress and self.trainer.is_global_zero
        return tqdm(
            total=share,
            initial=share - left,  # done by earlier starts
            desc=name if world == 1 else f"{name}, process 1 of {world}",
            unit=" images",
            unit_scale=False if self.images_per_item == 1 else self.images_per_item,
            dynamic_ncols=True,
            disable=not shown,
            mininterval=0.5 if sys.stderr.isatty() else 30,  # fewer lines in a log file
        )
