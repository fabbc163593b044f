"""From a chat request to questions for the engine, and from its answers to the text."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from prefix_models.errors import within
from regionlm.errors import InputError
from regionlm.inputs.encoded_files import file_bytes
from regionlm.serve.net.fetching import UrlFetcher
from regionlm.serve.net.urls import is_address
from regionlm.serve.openai.pictures import Place, Shown, last_question, read_pictures
from regionlm.serve.openai.replies import Answered, line_start, most_new_tokens, one_line
from regionlm.serve.openai.schemas import ChatRequest, read_request
from regionlm.serve.openai.stop_words import CutStream, cut
from regionlm.serve.question import Piece, Question
from regionlm.serve.readers import off_loop

if TYPE_CHECKING:
    from regionlm.serve.engine import Engine

Result = TypeVar("Result")

_FETCHED_AT_ONCE = 4  # of one request: fewer than the service fetches, so that others get a turn


@dataclass(frozen=True)
class Chat:
    """A chat request, understood.

    questions: one for each image, with its regions.
    """

    request: ChatRequest
    engine: Engine
    questions: Sequence[Question]

    @property
    def is_named(self) -> bool:
        """Whether each line of the text begins with its region's name."""
        names = [region.name for one in self.questions for region in one.regions]
        return len(names) > 1 or "#" in names[0]

    async def answer(self) -> Answered:
        """All captions. Raises as `Engine.ask`."""
        return self._answered(await _together(map(self.engine.ask, self.questions)))

    async def pieces(self) -> AsyncGenerator[str | Answered, None]:
        """The text as it is written, some pieces empty, and at last all captions.

        Raises as `Engine.stream`.

        Regions are written at the same time, so it is the first one's text that grows; the others'
        follow whole.
        """
        first, *others = self.questions
        tasks = [asyncio.create_task(self.engine.ask(one)) for one in others]
        try:
            found: list[list[Any]] = []
            growing = CutStream(self.request.stop)
            start = line_start(0, first.regions[0].name, self.is_named)
            async for heard in self.engine.stream(first):
                if not isinstance(heard, Piece):
                    found.append(heard)
                elif heard.index == 0:
                    yield start + one_line(growing.add(heard.text), self.is_named)
                    start = ""
            yield start + one_line(growing.rest(), self.is_named)
            found += await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        answered = self._answered(found)
        for index, one in enumerate(answered.captions[1:], 1):
            text = cut(one.text, self.request.stop)[0]
            yield line_start(index, one.region, self.is_named) + one_line(text, self.is_named)
        yield answered

    def _answered(self, found: Sequence[list[Any]]) -> Answered:
        return Answered(
            [caption for captions in found for caption in captions],
            self.is_named,
            self.request.stop,
            self.engine.model,
            self.questions[0].options.get("max_new_tokens"),
        )


async def read_chat(engine: Engine, fetcher: UrlFetcher, body: bytes, deadline: float) -> Chat:
    """What a request asks.

    Args:
        engine: that will be asked.
        fetcher: of images whose URLs are addresses.
        body: JSON.
        deadline: of the questions, by `time.monotonic`.

    Raises:
        ServiceError, InputError: something in it can't be used, or it is too late.
    """
    request = await off_loop(lambda: read_request(body, engine.name), deadline)
    places, text = last_question(request.messages)
    most = 2 * engine.limits.max_regions  # an image and a mask for each
    if len(places) > most:
        raise InputError(f"messages: expected at most {most} images, found {len(places)}")
    if not hasattr(engine.model, "caption"):
        raise InputError(f"model: {engine.name} writes no captions; ask another model")
    files = await _files(engine, places, fetcher, deadline)
    options = _options(engine, request, text)

    def questions() -> list[Question]:
        return [_question(one, options, deadline) for one in read_pictures(engine, files)]

    return Chat(request, engine, await off_loop(questions, deadline))


async def _files(
    engine: Engine, places: Sequence[Place], fetcher: UrlFetcher, deadline: float
) -> list[tuple[str, bytes]]:
    """Names and bytes of images; all that is fetched has at most the size of a body."""
    room, turns = fetcher.room(), asyncio.Semaphore(_FETCHED_AT_ONCE)

    async def file(place: Place) -> tuple[str, bytes]:
        if not is_address(place.url):
            read = partial(file_bytes, place.url, place.name)
            return place.name, await off_loop(read, deadline)
        async with turns:
            engine.check_room()
            with within(place.name):
                return place.name, await fetcher.fetch(place.url, deadline=deadline, room=room)

    return await _together([file(place) for place in places])


def _question(shown: Shown, options: dict[str, Any], deadline: float) -> Question:
    return Question("caption", shown.view, shown.regions, options=options, deadline=deadline)


def _options(engine: Engine, request: ChatRequest, text: str) -> dict[str, Any]:
    options = request.decoding(engine.limits.max_tokens)
    if "max_new_tokens" in options:
        options["max_new_tokens"] = most_new_tokens(engine.model, options["max_new_tokens"])
    if text and hasattr(engine.model, "prompt"):  # a LLaVA; others know one question only
        most = engine.limits.max_text_length
        if len(text) > most:
            raise InputError(f"messages: expected a text of at most {most} characters")
        options["prompt"] = text
    return options


async def _together(works: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """What they return, in order. If one fails, or the caller is cancelled, so are all others."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
