"""The one engine behind all faces: questions wait in a bounded queue and are worked in batches."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from regionlm.inputs.images import open_image_bytes
from regionlm.inputs.views import ImageView
from regionlm.points.segmenter import Segmenter, load_segmenter
from regionlm.serve.answers import AnswersCache
from regionlm.serve.checks import check_default_size, check_question, within_limits
from regionlm.serve.errors import ClosingError, QueueFullError, TooLateError
from regionlm.serve.limits import Limits
from regionlm.serve.question import Piece, Question
from regionlm.serve.views_cache import ViewsCache
from regionlm.serve.work import answer, can_share, say_again

if TYPE_CHECKING:
    from regionlm.captioner import RegionCaptioner
    from regionlm.encoder import RegionEncoder
    from regionlm.llava_captioner import LlavaCaptioner
    from regionlm.serve.blocking import BlockingEngine

_log = logging.getLogger(__name__)


@dataclass
class Tally:
    """What an engine has done so far, by the kind of question."""

    answered: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    batches: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)


class Engine:
    """Answers questions about images with one model, on a thread of its own.

    Questions that wait together, of one kind and with the same options, are worked together; each
    gets its answer, the same as the Python API's, or its error. A question that was answered before
    gets that answer at once, unless it is one about chance. A question whose asker has gone
    leaves the queue. All methods may be called from any thread.

    ```
    view = engine.view(data)  # the bytes of an image file
    regions = [box_region("0,0,9,9", view.size)]
    found = await engine.ask(Question("caption", view, regions, options={"steps": 5}))
    async for piece in engine.stream(Question("caption", view, regions)): ...
    found = engine.blocking.caption(view, regions, steps=5)  # from other threads
    ```

    Args:
        model: what answers: all kinds by a RegionCaptioner; without `caption` by a RegionEncoder;
            `caption` alone by a LlavaCaptioner.
        limits: see `Limits`.
        segmenter: finds the regions that points mark; by default, by colour.

    Raises:
        InputError: the model's input is larger than the limit.
    """

    def __init__(
        self,
        model: RegionCaptioner | RegionEncoder | LlavaCaptioner,
        limits: Limits | None = None,
        segmenter: Segmenter | None = None,
    ) -> None:
        self.model, self.limits = model, limits or Limits()
        check_default_size(model, self.limits)
        self.segmenter = segmenter or load_segmenter()
        self.views = ViewsCache(self.limits.cache_mib)
        self.answers = AnswersCache(self.limits.cache_mib / 4)
        self._waiting: deque[Question] = deque()
        self._changed = threading.Condition()
        self._worker: threading.Thread | None = None
        self._is_draining = self._is_closed = False
        self.tally = Tally()
        self._pace = 0.05  # seconds that a question takes, as a moving mean

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model.name

    @cached_property
    def blocking(self) -> BlockingEngine:
        """The same methods as a RegionCaptioner's, which ask this engine and wait."""
        from regionlm.serve.blocking import BlockingEngine

        return BlockingEngine(self)

    def view(self, data: bytes, name: str = "image") -> ImageView:
        """The image of a file's bytes; one seen before is neither decoded nor encoded again.

        It takes the time of decoding, so not for the event loop.

        Args:
            data: of a PNG, JPEG, WebP, TIFF, BMP or GIF file.
            name: how messages call it.

        Raises:
            InputError: not an image, damaged, or with more pixels than the limit. QueueFullError,
            ClosingError: a question about it would not be accepted, so it is not decoded.
        """
        self.check_room()
        most = self.limits.max_pixels
        return self.views.view(data, lambda data: ImageView(open_image_bytes(data, name, most)))

    # --- asking

    async def ask(self, question: Question) -> Any:
        """The answer: what the method named by the question's kind returns.

        Cancelling the call takes the question out of the queue.

        Raises:
            UserError: something in the question can't be used. QueueFullError, TooLateError,
            ClosingError: no answer now.
        """
        future = self.submit(question)
        if future.done():  # at once, however late it is
            return future.result()
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), question.seconds_left())
        except asyncio.TimeoutError:
            raise self._too_late() from None
        finally:
            question.leave()

    async def stream(self, question: Question) -> AsyncGenerator[Piece | list[Any], None]:
        """The pieces of captions as they are written, and at last the answer, a list.

        Closing the iterator stops the work. Raises as `ask`, at the first step or later.
        """
        loop = asyncio.get_running_loop()
        heard: asyncio.Queue[Piece | None] = asyncio.Queue()

        def say(piece: Piece | None) -> None:
            with suppress(RuntimeError):  # the loop has ended, and nobody hears
                loop.call_soon_threadsafe(heard.put_nowait, piece)

        question.heard = say
        future = self.submit(question)
        future.add_done_callback(lambda _: say(None))
        try:
            # Once the answer is there, all is heard without waiting, however late it is.
            while piece := await asyncio.wait_for(
                heard.get(), None if future.done() else question.seconds_left()
            ):
                yield piece
            yield future.result()
        except asyncio.TimeoutError:
            raise self._too_late() from None
        finally:
            question.leave()

    def submit(self, question: Question) -> Future[Any]:
        """Put a question into the queue; the future of its answer.

        Raises:
            UserError: beyond a limit, or of a kind that the model can't answer. QueueFullError,
            ClosingError: not accepted.
        """
        check_question(question, self.model, self.limits)
        question.options = within_limits(question, self.limits)
        if question.deadline is None:
            question.deadline = time.monotonic() + self.limits.timeout
        identity = self._identity(question)
        known = identity and self.answers.get(identity, question.view)
        if known is not None:
            say_again(question, known)
            question.future.set_result(known)
            return question.future
        with self._changed:
            self.check_room(question.nbytes)
            self.start()
            self._waiting.append(question)
            self._changed.notify_all()
        # Not by the question, which has the future: both, and a large image, would be kept until
        # Python looks for circles.
        question.future.add_done_callback(self._forget)
        return question.future

    def start(self) -> None:
        """Start the thread that answers, unless it runs. Raises RuntimeError: it can't be."""
        with self._changed:
            if self._worker is None or not self._worker.is_alive():
                worker = threading.Thread(target=self._run, name="engine", daemon=True)
                worker.start()
                self._worker = worker

    def check_room(self, nbytes: int = 0) -> None:
        """Return if a question about an image and masks of so many bytes would be accepted now.

        Raises:
            QueueFullError, ClosingError: it would not.
        """
        with self._changed:
            if self._is_closed:
                raise ClosingError()
            count = len(self._waiting)
            held = sum(one.nbytes for one in self._waiting) + nbytes
        has_memory = not count or held <= self.limits.queue_mib * 2**20
        if count < self.limits.max_queue and has_memory:
            return
        after = max(1, math.ceil(count * self._pace))
        raise QueueFullError(
            f"{count} questions wait already; try again in {after} s", retry_after=after
        )

    def _identity(self, question: Question) -> str | None:
        """Equal for questions with the same answer, also if the trunk is set anew between them."""
        return question.identity and f"{question.identity} {self.model.backbone.trunk_options}"

    def _forget(self, future: Future[Any]) -> None:
        """Take the question of a future that was cancelled out of the queue."""
        with self._changed:
            for one in self._waiting:
                if one.future is future:
                    self._waiting.remove(one)
                    return

    def _too_late(self) -> TooLateError:
        return TooLateError(
            f"no answer within {self.limits.timeout:g} s; ask for less, or try again later"
        )

    # --- stopping

    @property
    def is_closing(self) -> bool:
        """The service takes no new requests; questions of those that run are answered."""
        return self._is_draining

    @property
    def waiting(self) -> int:
        """How many questions wait, those being worked not counted."""
        return len(self._waiting)

    def refuse(self) -> None:
        """Let the service take no new requests."""
        self._is_draining = True

    def close(self, seconds: float | None = None) -> None:
        """Take no new questions, answer those that wait, and end the thread.

        seconds: wait no longer for that; the thread ends with the process, then.
        """
        self.refuse()
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        if self._worker is not None:
            self._worker.join(seconds)

    # --- the engine's thread

    def _run(self) -> None:
        while self._work_next():
            pass  # and keep nothing of it

    def _work_next(self) -> bool:
        """Wait for questions and work them; whether more may come."""
        group: list[Question] = []
        try:
            self._take(group)
            if begun := [one for one in group if self._begins(one)]:
                # neighbours share forwards
                self._work_timed(sorted(begun, key=lambda one: one.view.size))
        except Exception as error:  # whatever it is, such as no memory, the next are answered
            _log.exception("questions could not be worked")
            self._fail(group, error)
        return bool(group)

    def _work_timed(self, group: list[Question]) -> None:
        kind, begun = group[0].kind, time.monotonic()
        self.tally.batches[kind] += 1  # before anybody has an answer, so that none is missed
        self._work(group)
        self.views.settle(question.view for question in group)
        seconds = time.monotonic() - begun
        self.tally.seconds[kind] += seconds  # type: ignore[assignment]  # not whole ones
        self._pace += 0.1 * (seconds / len(group) - self._pace)

    def _take(self, group: list[Question]) -> None:
        """Move the question that waits longest into a group, and others that can be worked with it;
        none: the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed)
            if not self._waiting:
                return
            first = self._waiting.popleft()
            group.append(first)
            if not can_share(self.model, first):
                return
            key, regions = first.key, len(first.regions)
            for one in list(self._waiting):
                fits = regions + len(one.regions) <= self.limits.max_regions
                if one.key == key and fits and len(group) < self.limits.max_batch:
                    self._waiting.remove(one)
                    group.append(one)
                    regions += len(one.regions)

    def _fail(self, group: list[Question], error: Exception) -> None:
        """Let those hear of an error who have no answer yet."""
        for one in group:
            with suppress(InvalidStateError):  # answered, or its asker has gone
                one.future.set_exception(error)
                self.tally.failed[one.kind] += 1

    def _begins(self, question: Question) -> bool:
        """Whether somebody still waits for a question that is taken out of the queue."""
        if not question.future.set_running_or_notify_cancel():
            return False
        if question.seconds_left() <= 0:
            question.future.set_exception(self._too_late())
            return False
        return True

    def _work(self, group: list[Question]) -> None:
        """Answer questions of one key together; where that fails, one by one."""
        try:
            answers = list(zip(group, answer(self.model, group), strict=True))
        except Exception as error:
            for one in group:
                if len(group) == 1 or one.has_spoken or one.is_gone:
                    self.tally.failed[one.kind] += 1
                    one.future.set_exception(error)
                else:
                    self._work([one])
            return
        for question, found in answers:
            self.tally.answered[question.kind] += 1
            if identity := self._identity(question):
                self.answers.keep(identity, question.view, found)
            question.future.set_result(found)
