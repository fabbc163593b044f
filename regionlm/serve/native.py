"""The native API: what the Python API does, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from regionlm.errors import InputError
from regionlm.extras import extra
from regionlm.serve import replies
from regionlm.serve.asked import (
    Asked,
    deadline_of,
    read_request,
    request_id,
    unless_gone,
)
from regionlm.serve.documentation import documented
from regionlm.serve.errors import logged_error
from regionlm.serve.events import event
from regionlm.serve.question import Kind, Piece, Question
from regionlm.serve.readers import in_time, off_loop
from regionlm.serve.schemas import (
    CaptionReply,
    CaptionRequest,
    EmbedReply,
    EmbedRequest,
    ExplainReply,
    ExplainRequest,
    MatchReply,
    MatchRequest,
)

with extra("serve"):
    from fastapi import APIRouter, Request
    from starlette.responses import JSONResponse, Response, StreamingResponse

if TYPE_CHECKING:
    from regionlm.captioner import RegionCaption
    from regionlm.serve.engine import Engine

Said = dict[str, Any]
Result = TypeVar("Result")


def native_router(engine: Engine) -> APIRouter:
    """Routes under /v1 that ask an engine. Whole replies, which may be long, are written off the
    event loop."""
    router = APIRouter(tags=["regions"])

    @router.post("/v1/caption", **documented(CaptionRequest, CaptionReply, streams=True))
    async def caption(request: Request) -> Response:
        """Say in words what is in each region of an image."""
        asked = await read_request(request, CaptionRequest)
        _check_heatmap(asked)
        question = await _question(request, engine, asked, "caption")
        said = {"id": request_id(request), **await _about(request, engine, question)}
        heatmap = asked.form.heatmap
        if asked.form.stream:
            return await _streamed(request, engine, question, said, heatmap)
        found = await unless_gone(request, engine.ask(question))
        deadline = deadline_of(request)
        return await _written(
            request, lambda: JSONResponse(_caption_reply(said, found, heatmap, deadline))
        )

    @router.post("/v1/match", **documented(MatchRequest, MatchReply))
    async def match(request: Request) -> Response:
        """Say which of several texts fits each region of an image."""
        asked = await read_request(request, MatchRequest)
        question = await _question(request, engine, asked, "match")
        said = {"id": request_id(request), **await _about(request, engine, question)}
        found = await unless_gone(request, engine.ask(question))

        def reply() -> Response:
            rows = [replies.match_row(one) for one in found]
            return JSONResponse({**said, "texts": asked.form.texts, "regions": rows})

        return await _written(request, reply)

    @router.post("/v1/embed", **documented(EmbedRequest, EmbedReply))
    async def embed(request: Request) -> Response:
        """Turn each region of an image into a vector of the model's image-text space."""
        asked = await read_request(request, EmbedRequest)
        question = await _question(request, engine, asked, "embed")
        said = await _about(request, engine, question)
        found = await unless_gone(request, engine.ask(question))
        names = [region.name for region in question.regions]
        if asked.form.format == "raw":
            data = await _written(request, lambda: replies.embedding_file(found, names, said))
            return Response(data, media_type="application/octet-stream")
        encoding = asked.form.encoding_format

        def reply() -> Response:
            rows = replies.embedding_rows(found, names, encoding)
            usage = {"prompt_tokens": 0, "total_tokens": 0}
            return JSONResponse({"object": "list", "data": rows, **said, "usage": usage})

        return await _written(request, reply)

    @router.post("/v1/explain", **documented(ExplainRequest, ExplainReply))
    async def explain(request: Request) -> Response:
        """Show where an image is relevant to texts, or to the embeddings of regions."""
        asked = await read_request(request, ExplainRequest)
        question = await _question(request, engine, asked, "explain")
        said = {"id": request_id(request), **await _about(request, engine, question)}
        found = await unless_gone(request, engine.ask(question))

        def reply() -> Response:
            row = partial(replies.explain_row, regions=question.regions)
            return JSONResponse({**said, "maps": _rows(row, found, deadline_of(request))})

        return await _written(request, reply)

    return router


async def _question(request: Request, engine: Engine, asked: Asked[Any], kind: Kind) -> Question:
    deadline, needs_region = deadline_of(request), kind != "explain"

    def question() -> Question:
        return asked.question(engine, kind, deadline, needs_region=needs_region)

    return await off_loop(question, deadline)


async def _about(request: Request, engine: Engine, question: Question) -> Said:
    return await off_loop(lambda: replies.about(engine.model, question), deadline_of(request))


async def _written(request: Request, reply: Callable[[], Result]) -> Result:
    """A reply, unless its client goes or its time ends before it is written."""
    return await unless_gone(request, off_loop(reply, deadline_of(request)))


def _rows(row: Callable[[Any], Said], found: Sequence[Any], deadline: float) -> list[Said]:
    """A row of each thing found; each may be a large picture, so none is begun too late."""
    return [in_time(partial(row, one), deadline) for one in found]


def _check_heatmap(asked: Asked[CaptionRequest]) -> None:
    embedder = getattr(asked.form.options, "embedder", "maskinversion")
    if asked.form.heatmap and embedder != "maskinversion":
        raise InputError(
            f"heatmap: the embedder {embedder} has no relevance map; leave it out, or use"
            " maskinversion"
        )


def _caption_reply(said: Said, found: list[RegionCaption], heatmap: bool, deadline: float) -> Said:
    return {
        **said,
        "regions": _rows(partial(replies.caption_row, heatmap=heatmap), found, deadline),
    }


async def _streamed(
    request: Request, engine: Engine, question: Question, said: Said, heatmap: bool
) -> Response:
    """Server-sent events. What fails before the first of them gets a status of its own."""
    parts = engine.stream(question)
    first = await unless_gone(request, anext(parts))
    written = partial(_last_events, said, heatmap=heatmap, deadline=deadline_of(request))

    async def events() -> AsyncIterator[str]:
        async with aclosing(parts):
            try:
                async for one in _events(first, parts, written):
                    yield one
            except Exception as error:
                yield event("error", logged_error(error, said["id"]).to_dict())

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(events(), media_type="text/event-stream", headers=headers)


async def _events(
    first: Any, parts: AsyncGenerator[Any, None], written: Callable[[Any], list[str]]
) -> AsyncIterator[str]:
    part = first
    while isinstance(part, Piece):
        yield event("piece", {"index": part.index, "region": part.region, "text": part.text})
        part = await anext(parts)
    for one in await off_loop(partial(written, part)):
        yield one


def _last_events(
    said: Said, found: list[RegionCaption], heatmap: bool, deadline: float
) -> list[str]:
    reply = _caption_reply(said, found, heatmap, deadline)
    rows = [event("region", {"index": index, **row}) for index, row in enumerate(reply["regions"])]
    return [*rows, event("done", reply)]
