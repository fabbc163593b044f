"""Lightning's part: items to processes, answers to the journal."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from tqdm import tqdm

from prefix_models.errors import PrefixModelError
from regionlm.distributed.journal import Answer
from regionlm.errors import InputError, ModelError
from regionlm.extras import extra

with extra("bulk"):
    import lightning as L


USERS_ERRORS = (InputError, ModelError, PrefixModelError)


class Items(Protocol):
    """What is to be answered, by number; several threads read at once."""

    def __len__(self) -> int:
        """How many."""
        ...

    def __getitem__(self, index: int) -> Any:
        """Read one from disk. Raises InputError: it can't be read."""
        ...


class AnswerWriter(Protocol):
    """Takes the answers of one process, in the order of its items."""

    def write(self, number: int, answer: Answer) -> None:
        """Keep one. Raises InputError: the system refuses to write."""
        ...

    def close(self) -> None:
        """Nothing more to write."""
        ...


class AnswerStore(Protocol):
    """Where answers go, and which are there; see `regionlm.distributed.journal.Journal`."""

    folder: Path

    def done(self) -> np.ndarray:
        """Numbers of the finished items."""
        ...

    def writer(self, process: int) -> AnswerWriter:
        """Where the process of this number puts its answers."""
        ...

    def ask_to_stop(self) -> None:
        """Tell all processes of the run to leave the rest of their items."""
        ...

    def start_again(self) -> None:
        """Take `ask_to_stop` back, and what was answered for items that can't be read.

        Raises InputError: the system refuses to write.
        """
        ...

    @property
    def stopped(self) -> bool:
        """Whether a process asked all to stop."""
        ...

    def discard_if_empty(self) -> None:
        """Leave nothing behind if nothing was answered."""
        ...


class Read(NamedTuple):
    """An item, or why there is none."""

    number: int
    item: Any
    error: InputError | None = None


class Share:
    """The items of one process that are not done: every `world`-th, so none is seen twice.

    An item's number alone says whose it is. So it does not matter if other processes are already
    writing when this one looks up what is done, and no item is added to make shares equal.

    Args:
        size: of the whole run.
        done: numbers of finished items.
        rank, world: which process, of how many.
        stop: asked before each item; true ends the share.
        block: neighbours that stay together: it is every `world`-th block then.
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
    """The items of a share, read by threads ahead of whoever answers, in the share's order.

    Threads, not worker processes: a process forked beside torch's and gloo's threads may never
    wake up (seen with Python 3.11), and decoding a picture lets other threads run.

    Args:
        items: what is read.
        share: which of them.
        threads: how many read; 0 reads when asked.
    """

    def __init__(self, items: Items, share: Share, threads: int) -> None:
        self.items, self.share, self.threads = items, share, threads

    def __iter__(self) -> Iterator[Read]:
        if not self.threads:
            yield from map(self._read, self.share)
            return
        with ThreadPoolExecutor(self.threads, thread_name_prefix="read") as pool:
            numbers = iter(self.share)
            begun = deque(pool.submit(self._read, n) for n in islice(numbers, 2 * self.threads))
            while begun:
                yield begun.popleft().result()
                begun.extend(pool.submit(self._read, number) for number in islice(numbers, 1))

    def _read(self, number: int) -> Read:
        try:
            return Read(number, self.items[number])
        except InputError as error:
            return Read(number, None, error)


class PredictModule(L.LightningModule):
    """Asks about every item and keeps the answers.

    An error of the user's does not end one process while others wait for it: it is kept in
    ``error``, all processes stop at their next item, and `regionlm.distributed.trainer` raises it.

    Args:
        items: what is asked about.
        prepare: loads the models on the device a process is given; what it returns makes an answer
            of a number and an item.
        journal: where answers go, and which are there already.
        workers: threads that read items, in each process.
        unreadable: the answer for an item that can't be read; None stops the run there.
        progress: show a bar.
        block: see `Share`.
        images_per_item: for the bar.
        named: what the bar calls the run; by default by the folder of its answers.
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
        """How many to compute with; None leaves it as it is."""
        self.error: BaseException | None = None
        self.started = time.monotonic()
        """When the models were loaded."""
        self._answer: Callable[[int, Any], Answer] | None = None
        self._writer: AnswerWriter | None = None
        self._bar: tqdm | None = None
        self._share: Share | None = None
        self._parent = os.getppid()

    def setup(self, stage: str) -> None:
        """Nobody starts before an earlier run's stop and bad items are forgotten."""
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        if self.trainer.is_global_zero:
            try:
                self.journal.start_again()
            except USERS_ERRORS as error:
                self._stop(error)
        self.trainer.strategy.barrier()

    def predict_dataloader(self) -> ReadAhead:
        """One item at a time: an answer then does not depend on which items were its company.

        Lightning iterates over anything. It would remark on the lack of workers in a DataLoader,
        and on a length of 0, which a process has that is left nothing to do.
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
        """Items stay as they are; the embedder moves what it needs."""
        return batch

    def on_predict_start(self) -> None:
        """Load the models where they are to run and open this process's file."""
        if self.error is not None:  # of `setup`, or interrupted before it forgot an earlier stop
            self.journal.ask_to_stop()
            return
        if not self._share:  # after a resumption
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
        """Answer for one item and write it down; its number, since Lightning remarks on None."""
        if self.error is not None:  # what was read ahead
            return batch.number
        assert self._answer is not None and self._writer is not None and self._bar is not None
        number, item, why = batch
        try:
            if why is None:
                answer = self._answer(number, item)
            elif self.unreadable is not None:
                answer = self.unreadable(number, why)
            else:
                raise why
            self._writer.write(number, answer)
        except USERS_ERRORS as error:
            self._stop(error)
            if sys.stderr.isatty():
                self._bar.leave = False  # the error's line takes its place
            return number
        self._bar.update()
        return number

    def on_predict_end(self) -> None:
        """Close what is open."""
        for opened in (self._writer, self._bar):
            if opened is not None:
                opened.close()

    def interrupt(self) -> None:
        """Stop all processes at their next item; `error` is a KeyboardInterrupt then."""
        self._stop(KeyboardInterrupt("stopped; repeat the command to resume"))

    def _stop(self, error: BaseException) -> None:
        self.error = error
        self.journal.ask_to_stop()

    def _should_stop(self) -> bool:
        # The first process started the others; killed, it can't tell them, and they would go on.
        if self.local_rank and os.getppid() != self._parent:
            raise KeyboardInterrupt
        return self.journal.stopped

    def _new_bar(self, left: int) -> tqdm:
        world, name = self.trainer.world_size, self.named
        share = len(Share(len(self.items), np.empty(0), self.global_rank, world, block=self.block))
        shown = self.progress and self.trainer.is_global_zero
        return tqdm(
            total=share,
            initial=share - left,  # done by earlier runs
            desc=name if world == 1 else f"{name}, process 1 of {world}",
            unit=" images",
            unit_scale=False if self.images_per_item == 1 else self.images_per_item,
            dynamic_ncols=True,
            disable=not shown,
            mininterval=0.5 if sys.stderr.isatty() else 30,  # a log file needs fewer lines
        )
