"""What requests look like: the bodies of the native API."""

from __future__ import annotations

from typing import Any, Literal

from prefix_models.decoding.options import DecodeOptions
from regionlm.embedders.options import EMBEDDER_OPTIONS
from regionlm.extras import extra
from regionlm.serve.option_models import Form, options_model

with extra("serve"):
    from pydantic import Field

REMOTE_EMBEDDERS = tuple(name for name in EMBEDDER_OPTIONS if name != "alphaclip")
"""Embedders that a request may name: those that need no file of the server's."""

_EMBEDDER: dict[str, Any] = {
    "embedder": (
        Literal[REMOTE_EMBEDDERS],
        Field(default="maskinversion", description="How regions become embeddings."),
    )
}
_EMBEDDING = [EMBEDDER_OPTIONS[name] for name in REMOTE_EMBEDDERS]

EmbeddingOptions = options_model("EmbeddingOptions", _EMBEDDING, more=_EMBEDDER)
"""Options of `match` and `embed`."""
CaptionOptions = options_model("CaptionOptions", [*_EMBEDDING, DecodeOptions], more=_EMBEDDER)
"""Options of `caption`: of embedders, and of decoding."""


class RegionForm(Form):
    """A region of the image, in pixels: exactly one of box, mask, rle, polygon and points."""

    box: list[float] | None = Field(
        None, description="[x0, y0, x1, y1], x1 and y1 exclusive.", min_length=4, max_length=4
    )
    mask: str | None = Field(
        None,
        description="Base64 or data: URI of a mask file of the image's size. A label map gives a"
        " region for each label.",
    )
    rle: dict[str, Any] | None = Field(
        None, description='Run-length code of COCO: {"size": [height, width], "counts": ...}.'
    )
    polygon: list[Any] | None = Field(
        None, description="[[x0, y0, x1, y1, x2, y2, ...], ...]", min_length=1
    )
    points: list[list[float]] | None = Field(
        None, description="[[x, y], [x, y, 0], ...]: inside, and with 0 outside.", min_length=1
    )
    id: str | int | None = Field(None, description="What replies call the region.")


class Asking(Form):
    """What all requests have."""

    image: str = Field(description="Base64 or data: URI of an image file.", min_length=1)


class CaptionRequest(Asking):
    """Say in words what is in each region of an image."""

    regions: list[RegionForm] = Field(min_length=1)
    options: CaptionOptions = Field(  # type: ignore[valid-type]
        default_factory=CaptionOptions
    )
    heatmap: bool = Field(False, description="Also send each region's relevance as a picture.")
    stream: bool = Field(False, description="Send server-sent events as the text is written.")
