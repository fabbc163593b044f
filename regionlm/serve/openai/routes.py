"""The routes of OpenAI's API that this service has."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator
from functools import partial
from typing import TYPE_CHECKING, Any

from regionlm.extras import extra
from regionlm.serve.asked import deadline_of, request_id, unless_gone
from regionlm.serve.documentation import documented
from regionlm.serve.errors import logged_error
from regionlm.serve.openai.asking import Chat, read_chat
from regionlm.serve.openai.replies import Answered, Form, event
from regionlm.serve.openai.schemas import ChatRequest, UnknownModelError
from regionlm.serve.readers import off_loop
from regionlm.serve.schemas import ErrorReply

with extra("serve"):
    from fastapi import APIRouter, Request, Response
    from fastapi.responses import JSONResponse, StreamingResponse

if TYPE_CHECKING:
    from regionlm.serve.engine import Engine

_NOT_FOUND: dict[int | str, dict[str, Any]] = {
    404: {"model": ErrorReply, "description": "The service has another model."}
}


def openai_router(engine: Engine, *, dam_stream: bool = False) -> APIRouter:
    """Chat completions and the list of models, under /v1 and, for some clients, without it.

    Args:
        engine: that is asked.
        dam_stream: write pieces as Describe Anything's own server does, which its own clients need
            and all others fail on.
    """
    router, started = APIRouter(tags=["OpenAI"]), int(time.time())

    shown = documented(ChatRequest, None, streams=True, files=False)
    shown["responses"] |= _NOT_FOUND

    @router.post("/v1/chat/completions", **shown)
    @router.post("/chat/completions", response_model=None, include_in_schema=False)
    async def chat(request: Request) -> Response:
        """OpenAI's chat completion: a caption for each region that the messages' images mark."""
        body, fetcher = await request.body(), request.app.state.fetcher
        asking = read_chat(engine, fetcher, body, deadline_of(request))
        asked = await unless_gone(request, asking)
        form = Form(request_id(request), engine.name, as_lists=dam_stream)
        if not asked.request.stream:
            answered = await unless_gone(request, asked.answer())
            return await off_loop(lambda: JSONResponse(form.whole(answered)), deadline_of(request))
        pieces = asked.pieces()
        first = await unless_gone(request, anext(pieces))  # an error before it is a plain reply
        events = _events(form, asked, first, pieces)
        return StreamingResponse(events, media_type="text/event-stream")

    @router.get("/v1/models")
    @router.get("/models", include_in_schema=False)
    async def models() -> dict[str, Any]:
        """The one model that answers."""
        return {"object": "list", "data": [_model(engine.name, started)]}

    @router.get("/v1/models/{name:path}", responses=_NOT_FOUND)
    @router.get("/models/{name:path}", include_in_schema=False)
    async def model(name: str) -> dict[str, Any]:
        """The model, if it has this name."""
        if name != engine.name:
            raise UnknownModelError(f"model: this service has {engine.name}", param="model")
        return _model(name, started)

    return router


def _model(name: str, since: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": since, "owned_by": "regionlm"}


async def _events(
    form: Form, asked: Chat, first: str | Answered, others: AsyncGenerator[str | Answered, None]
) -> AsyncIterator[bytes]:
    """A reply in pieces; an error in the midst of it is the last event."""
    options = asked.request.stream_options
    yield form.first()
    try:
        heard: str | Answered | None = first
        while heard is not None:
            if isinstance(heard, Answered):
                usage = bool(options and options.include_usage)
                yield await off_loop(partial(form.last, heard, with_usage=usage))
            elif heard:
                yield form.piece(heard)
            heard = await anext(others, None)
    except Exception as error:
        yield event(logged_error(error, form.id).to_dict())
    finally:
        await others.aclose()
