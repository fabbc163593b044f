"""The native API: what the Python API does, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

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
from regionlm.serve.readers import off_loop
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
        said = {"id": request_id(request), **await off_loop(lambda: _about(engine, question))}
        heatmap = asked.form.heatmap
        if asked.form.stream:
            return await _streamed(request, engine, question, said, heatmap)
        found = await unless_gone(request, engine.ask(question))
        return await off_loop(lambda: JSONResponse(_caption_reply(said, found, heatmap)))

    @router.post("/v1/match", **documented(MatchRequest, MatchReply))
    async def match(request: Request) -> Response:
        """Say which of several texts fits each region of an image."""
        asked = await read_request(request, MatchRequest)
        question = await _question(request, engine, asked, "match")
        said = {"id": request_id(request), **await off_loop(lambda: _about(engine, question))}
        found = await unless_gone(request, engine.ask(question))

        def reply() -> Response:
            rows = [replies.match_row(one) for one in found]
            return JSONResponse({**said, "texts": asked.form.texts, "regions": rows})

        return await off_loop(reply)

    @router.post("/v1/embed", **documented(EmbedRequest, EmbedReply))
    async def embed(request: Request) -> Response:
        """Turn each region of an image into a vector of the model's image-text space."""
        asked = await read_request(request, EmbedRequest)
        question = await _question(request, engine, asked, "embed")
        said = await off_loop(lambda: _about(engine, question))
        found = await unless_gone(request, engine.ask(question))
        names = [region.name for region in question.regions]
        if asked.form.format == "raw":
            data = await off_loop(lambda: replies.embedding_file(found, names, said))
            return Response(data, media_type="application/octet-stream")
        encoding = asked.form.encoding_format

        def reply() -> Response:
            rows = replies.embedding_rows(found, names, encoding)
            usage = {"prompt_tokens": 0, "total_tokens": 0}
            return JSONResponse({"object": "list", "data": rows, **said, "usage": usage})

        return await off_loop(reply)

    @router.post("/v1/explain", **documented(ExplainRequest, ExplainReply))
    async def explain(request: Request) -> Response:
        """Show where an image is relevant to texts, or to the embeddings of regions."""
        asked = await read_request(request, ExplainRequest)
        question = await _question(request, engine, asked, "explain")
        said = {"id": request_id(request), **await off_loop(lambda: _about(engine, question))}
        found = await unless_gone(request, engine.ask(question))

        def reply() -> Response:
            rows = [replies.explain_row(one, question.regions) for one in found]
            return JSONResponse({**said, "maps": rows})

        return await off_loop(reply)

    return router


async def _question(request: Request, engine: Engine, asked: Asked[Any], kind: Kind) -> Question:
    deadline, needs_region = deadline_of(request), kind != "explain"

    def question() -> Question:
        return asked.question(engine, kind, deadline, needs_region=needs_region)

    return await off_loop(question, deadline)


def _about(engine: Engine, question: Question) -> Said:
    return replies.about(engine.model, question)


def _check_heatmap(asked: Asked[CaptionRequest]) -> None:
    embedder = getattr(asked.form.options, "embedder", "maskinversion")
    if asked.form.heatmap and embedder != "maskinversion":
        raise InputError(
            f"heatmap: the embedder {embedder} has no relevance map; leave it out, or use"
            " maskinversion"
        )


def _caption_reply(said: Said, found: list[RegionCaption], heatmap: bool) -> Said:
    return {**said, "regions": [replies.caption_row(one, heatmap) for one in found]}


async def _streamed(
    request: Request, engine: Engine, question: Question, said: Said, heatmap: bool
) -> Response:
    """Server-sent events. What fails before the first of them gets a status of its own."""
    parts = engine.stream(question)
    first = await unless_gone(request, anext(parts))

    async def events() -> AsyncIterator[str]:
        async with aclosing(parts):
            try:
                async for one in _events(first, parts, said, heatmap):
                    yield one
            except Exception as error:
                yield event("error", logged_error(error, said["id"]).to_dict())

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(events(), media_type="text/event-stream", headers=headers)


async def _events(
    first: Any, parts: AsyncGenerator[Any, None], said: Said, heatmap: bool
) -> AsyncIterator[str]:
    part = first
    while isinstance(part, Piece):
        yield event("piece", {"index": part.index, "region": part.region, "text": part.text})
        part = await anext(parts)
    for one in await off_loop(lambda: _last_events(said, part, heatmap)):
        yield one


def _last_events(said: Said, found: list[RegionCaption], heatmap: bool) -> list[str]:
    reply = _caption_reply(said, found, heatmap)
    rows = [event("region", {"index": index, **row}) for index, row in enumerate(reply["regions"])]
    return [*rows, event("done", reply)]
