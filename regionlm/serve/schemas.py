"""What requests look like: the bodies of the native API."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from prefix_models.decoding.options import DecodeOptions
from regionlm.embedders.options import (
    EMBEDDER_OPTIONS,
    ROLLOUT,
    MaskInversionOptions,
    RelevanceName,
)
from regionlm.extras import extra
from regionlm.serve.limits import MOST
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

ExplainOptions = options_model(
    "ExplainOptions",
    [MaskInversionOptions],
    more={
        "relevance": (
            Literal[RelevanceName, ROLLOUT] | None,  # type: ignore[valid-type]
            Field(default=None, description="Method whose map is shown."),
        )
    },
)
"""Options of `explain`: of maskinversion, the only embedder with maps."""


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
        None,
        description="[[x, y], [x, y, 0], ...]: inside, and with 0 outside.",
        min_length=1,
        max_length=MOST,
    )
    id: Annotated[str, Field(max_length=200)] | int | None = Field(
        None, description="What replies call the region."
    )


class Asking(Form):
    """What all requests have."""

    image: str | None = Field(
        None, description="Base64 or data: URI of an image file.", min_length=1
    )
    regions: list[RegionForm] = Field([], description="Regions of the image.", max_length=MOST)
    options: Any = None


class SegmentRequest(Asking):
    """Find the region that points of an image mark."""

    points: list[list[float]] = Field(
        description="[[x, y], [x, y, 0], ...] in pixels: inside, and with 0 outside.",
        min_length=1,
        max_length=MOST,
    )


class CaptionRequest(Asking):
    """Say in words what is in each region of an image."""

    options: CaptionOptions = Field(  # type: ignore[valid-type]
        default_factory=CaptionOptions
    )
    heatmap: bool = Field(False, description="Also send each region's relevance as a picture.")
    stream: bool = Field(False, description="Send server-sent events as the text is written.")


class MatchRequest(Asking):
    """Say which of several texts fits each region of an image."""

    texts: list[str] = Field(
        description="What to compare each region with.", min_length=1, max_length=MOST
    )
    options: EmbeddingOptions = Field(  # type: ignore[valid-type]
        default_factory=EmbeddingOptions
    )


class EmbedRequest(Asking):
    """Turn each region of an image into a vector."""

    options: EmbeddingOptions = Field(  # type: ignore[valid-type]
        default_factory=EmbeddingOptions
    )
    encoding_format: Literal["float", "base64"] = Field(
        "float", description="base64: the vector's bytes, float32, little end first."
    )
    format: Literal["openai", "raw"] = Field(
        "openai", description="raw: a safetensors file, as `regionlm embed` writes it."
    )


class ExplainRequest(Asking):
    """Show where an image is relevant to texts, or to the embeddings of regions."""

    texts: list[str] = Field([], description="What to look for.", max_length=MOST)
    options: ExplainOptions = Field(  # type: ignore[valid-type]
        default_factory=ExplainOptions
    )


class Trust(Form):
    """How far to trust what is said of a region."""

    dice: float | None = Field(description="How well the map matches the region, 0 to 1.")
    iou: float | None = Field(description="The same, of the map cut at 0.5.")


class CaptionRow(Trust):
    """What a region shows."""

    region: str
    caption: str
    logprob: float = Field(description="Natural-log probability of the caption.")
    cosine_to_image: float = Field(description="How like the whole image, -1 to 1.")
    heatmap: str | None = Field(None, description="data: URI of a greyscale PNG, if asked for.")


class How(Form):
    """How all that a reply says was found."""

    model: str
    embedder: str | None = Field(None, description="Unless it is maskinversion.")
    speed: str | None = Field(None, description="Unless it is exact.")
    precision: str | None = Field(None, description="Of the trunk, unless it is the model's own.")
    compile: Literal["true"] | None = Field(None, description="If the trunk is compiled.")


class Reply(How):
    """What all replies say."""

    id: str = Field(description="The request's id, as in the header X-Request-ID.")


class CaptionReply(Reply):
    """Captions of all regions."""

    regions: list[CaptionRow]


class MatchRow(Form):
    """How well each text fits a region."""

    region: str
    probabilities: list[float] = Field(description="Softmax of the similarities; sums to 1.")
    similarities: list[float] = Field(description="Cosines.")


class SegmentReply(Form):
    """A region, and how it was found."""

    id: str = Field(description="The request's id, as in the header X-Request-ID.")
    region: dict[str, Any] = Field(description='{"rle": {"size": [h, w], "counts": [...]}}')
    mask: str = Field(description="data: URI of a PNG of the image's size, 255 inside.")
    method: str = Field(description="superpixel, or sam")
    note: str = Field(description="A line for people.")


class MatchReply(Reply):
    """How well the texts fit all regions."""

    texts: list[str]
    regions: list[MatchRow]


class EmbeddingRow(Trust):
    """A region's vector."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str
    region: str
    cosine_to_image: float


class EmbedReply(How):
    """Vectors of all regions, in OpenAI's form."""

    object: Literal["list"]
    data: list[EmbeddingRow]
    usage: dict[str, int]


class Pointing(Form):
    """How a text's map points at a region."""

    region: str
    peak_inside: bool
    share_inside: float


class Map(Trust):
    """Where an image is relevant to a text or a region."""

    name: str
    kind: Literal["text", "region"]
    peak: list[int] = Field(description="[x, y] of the most relevant pixel.")
    heatmap: str = Field(description="data: URI of a greyscale PNG of the image's size.")
    pointing: list[Pointing] | None = Field(None, description="Of a text: at each region.")


class ExplainReply(Reply):
    """Maps of the texts, then of the regions."""

    maps: list[Map]


class ErrorDetail(Form):
    """Why there is no answer."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorReply(Form):
    """What every error looks like."""

    error: ErrorDetail
