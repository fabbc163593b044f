"""A RegionCaptioner's methods, answered by an engine: for callers that wait on a thread."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

from regionlm.inputs.masks import as_regions
from regionlm.inputs.views import ImageLike, ImageView, as_view
from regionlm.serve.errors import TooLateError
from regionlm.serve.limits import Limits
from regionlm.serve.question import Kind, Piece, Question

if TYPE_CHECKING:
    from regionlm.captioner import RegionCaption
    from regionlm.embedders.localized import RegionEmbeddings
    from regionlm.encoder import RegionMatch
    from regionlm.relevance.explanation import Explanation


class Asked(Protocol):
    """What is needed of an engine."""

    limits: Limits

    @property
    def name(self) -> str:
        """The model's name."""

    def submit(self, question: Question) -> Future[Any]:
        """Put a question into the queue; the future of its answer."""


class BlockingEngine:
    """Call it like a `RegionCaptioner`: the same arguments and results.

    Questions wait with all others of the engine, and are worked together with them. Never call it
    on the event loop or on the engine's own thread, where it would wait for itself.

    Args:
        engine: that answers.
        waiting: entered while an answer is waited for.
        deadline: of all questions, by `time.monotonic`; None: each has the engine's limit.

    Raises, from all methods: what the method of `RegionCaptioner` raises; InputError beyond a
    limit; QueueFullError, TooLateError, ClosingError.
    """

    def __init__(
        self,
        engine: Asked,
        waiting: Callable[[], AbstractContextManager[object]] = nullcontext,
        deadline: float | None = None,
    ) -> None:
        self._engine, self._waiting, self._deadline = engine, waiting, deadline

    @property
    def name(self) -> str:
        """The model's name."""
        return self._engine.name

    def encode(self, image: ImageLike, **options: Any) -> ImageView:
        """See `RegionEncoder.encode`."""
        found: ImageView = self._ask("encode", image, None, (), options)
        return found

    def caption(self, image: ImageLike, masks: Any, **options: Any) -> list[RegionCaption]:
        """See `RegionCaptioner.caption`."""
        found: list[RegionCaption] = self._ask("caption", image, masks, (), options)
        return found

    def match(
        self, image: ImageLike, masks: Any, texts: Sequence[str], **options: Any
    ) -> list[RegionMatch]:
        """See `RegionEncoder.match`."""
        found: list[RegionMatch] = self._ask("match", image, masks, texts, options)
        return found

    def embed(self, image: ImageLike, masks: Any, **options: Any) -> RegionEmbeddings:
        """See `RegionEncoder.embed`."""
        found: RegionEmbeddings = self._ask("embed", image, masks, (), options)
        return found

    def explain(
        self, image: ImageLike, masks: Any = None, *, texts: Sequence[str] = (), **options: Any
    ) -> list[Explanation]:
        """See `RegionEncoder.explain`."""
        found: list[Explanation] = self._ask("explain", image, masks, texts, options)
        return found

    def stream(self, image: ImageLike, mask: Any, **options: Any) -> Iterator[str]:
        """See `RegionCaptioner.stream`; closing the iterator stops the work."""
        heard: queue.SimpleQueue[Piece | None] = queue.SimpleQueue()
        question = self._question("caption", image, mask, (), options)
        question.heard = heard.put
        future = self._engine.submit(question)
        future.add_done_callback(lambda _: heard.put(None))
        return self._pieces(question, heard)

    def _pieces(self, question: Question, heard: queue.SimpleQueue[Piece | None]) -> Iterator[str]:
        try:
            while piece := heard.get(timeout=question.seconds_left()):
                yield piece.text
            question.future.result()  # raises if it failed
        except queue.Empty:
            raise self._too_late() from None
        finally:
            question.leave()

    def _ask(
        self, kind: Kind, image: ImageLike, masks: Any, texts: Sequence[str], options: Any
    ) -> Any:
        return self._wait(self._question(kind, image, masks, texts, options))

    def _question(
        self, kind: Kind, image: ImageLike, masks: Any, texts: Sequence[str], options: Any
    ) -> Question:
        view = as_view(image)
        regions = () if masks is None else as_regions(masks, view.size)
        texts = texts if isinstance(texts, str) else list(texts)
        return Question(kind, view, regions, texts, options, deadline=self._deadline)

    def _wait(self, question: Question) -> Any:
        future = self._engine.submit(question)
        try:
            with self._waiting():
                return future.result(question.seconds_left())
        except FutureTimeoutError:
            raise self._too_late() from None
        finally:
            question.leave()

    def _too_late(self) -> TooLateError:
        seconds = self._engine.limits.timeout
        return TooLateError(f"no answer within {seconds:g} s; ask for less, or try again later")
