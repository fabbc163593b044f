"""What /docs and /openapi.json say of the native API."""

from __future__ import annotations

import base64
import io
from typing import Any

from PIL import Image, ImageDraw

from regionlm.extras import extra
from regionlm.serve.openai.schemas import ANY_MODEL, ChatRequest
from regionlm.serve.option_models import Form
from regionlm.serve.schemas import (
    CaptionRequest,
    EmbedRequest,
    ErrorReply,
    ExplainRequest,
    MatchRequest,
    SegmentRequest,
)

with extra("serve"):
    from fastapi import FastAPI
    from pydantic import BaseModel

_REF = "#/components/schemas/{model}"
_ERRORS = {
    400: "Not JSON, or not multipart.",
    408: "The body came too slowly.",
    413: "The body is too large.",
    415: "The body is neither application/json nor multipart/form-data.",
    422: "A value can't be used; the message says which.",
    429: "Too many questions wait; Retry-After says when to try again.",
    503: "The service is stopping.",
    504: "No answer in time.",
}

_REQUIRED: dict[type[Form], list[str]] = {
    ChatRequest: ["model", "messages"],
    CaptionRequest: ["image", "regions"],
    MatchRequest: ["image", "regions", "texts"],
    EmbedRequest: ["image", "regions"],
    ExplainRequest: ["image"],
    SegmentRequest: ["image", "points"],
}
"""What JSON must have, where in a multipart request a file may take its place."""


def _example_image(outside: str = "white") -> str:
    """A picture small enough to be read in a page: a disc, and what colour is outside of it."""
    picture = Image.new("RGBA", (32, 32), outside)
    ImageDraw.Draw(picture).ellipse([8, 8, 24, 24], "red")
    file = io.BytesIO()
    picture.quantize(2).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _example_chat() -> dict[str, Any]:
    url = "data:image/png;base64," + _example_image(outside="#ffffff00")
    parts = [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "text", "text": "What is this?"},
    ]
    return {"model": ANY_MODEL, "messages": [{"role": "user", "content": parts}]}


_ASKED: dict[str, Any] = {"image": _example_image(), "regions": [{"box": [8, 8, 24, 24]}]}
_EXAMPLES: dict[type[Form], dict[str, Any]] = {
    CaptionRequest: {**_ASKED, "options": {"decoding": "beam"}},
    MatchRequest: {**_ASKED, "texts": ["a fish", "cheese"]},
    EmbedRequest: {**_ASKED, "options": {"embedder": "crop"}},
    ExplainRequest: {**_ASKED, "texts": ["cheese"]},
    SegmentRequest: {"image": _ASKED["image"], "points": [[16, 16], [2, 2, 0]]},
    ChatRequest: _example_chat(),
}


def documented(
    form: type[Form], reply: type[BaseModel] | None, *, streams: bool = False, files: bool = True
) -> dict[str, Any]:
    """Keyword arguments for a route whose request is read by `read_request`.

    reply: None where it has no schema. files: whether the request may be multipart.
    """
    errors = {status: {"model": ErrorReply, "description": why} for status, why in _ERRORS.items()}
    answer: dict[str, Any] = {"description": "The answer."} | ({"model": reply} if reply else {})
    if streams:
        answer["content"] = {"text/event-stream": {"schema": {"type": "string"}}}
    parts = {
        "image": {"type": "string", "format": "binary"},
        "mask": {"type": "array", "items": {"type": "string", "format": "binary"}},
        "request": {
            "type": "string",
            "contentMediaType": "application/json",
            "description": "The rest, as JSON.",
        },
    }
    content: dict[str, Any] = {
        "application/json": {"schema": {"$ref": _REF.format(model=form.__name__)}}
    }
    if form in _EXAMPLES:
        content["application/json"]["example"] = _EXAMPLES[form]
    if files:
        schema = {"type": "object", "properties": parts, "required": ["image"]}
        content["multipart/form-data"] = {"schema": schema}
    return {
        "responses": {200: answer, **errors},
        "response_model": None,
        "openapi_extra": {"requestBody": {"required": True, "content": content}},
    }


def document(app: FastAPI) -> None:
    """Let /openapi.json have the schemas of requests that `read_request` reads."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schemas = plain()["components"]["schemas"]
            for form, required in _REQUIRED.items():
                schema = form.model_json_schema(ref_template=_REF)
                schemas |= schema.pop("$defs", {})
                schemas[form.__name__] = {**schema, "required": required}
        return plain()

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's documentation has it
