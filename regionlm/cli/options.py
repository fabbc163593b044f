"""The command line's options: fields are flags and config keys, docstrings are their help.

Options of embedders and of decoding are declared in `regionlm.embedders.options` and
`prefix_models.decoding.options`, which the Python API uses, too. Nothing heavy may be imported
here, not even under TYPE_CHECKING: resolving the annotations really imports it, and `--help` would
load torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from prefix_models.decoding.options import DecodeOptions, Seed
from regionlm.backbones.trunk_options import TrunkOptions
from regionlm.embedders.options import (
    EMBEDDER_OPTIONS,
    AlphaClipOptions,
    ClipSurgeryOptions,
    FgvpOptions,
    MaskClipOptions,
    MaskedCropOptions,
    MaskInversionOptions,
    RedCircleOptions,
    RelevanceName,
    RisOptions,
)
from regionlm.serve.limits import Limits
from regionlm.serve.settings import Settings
from regionlm.tools.bounds import Bounds


@dataclass(frozen=True)
class CaptionQuery:
    """what to look at; at least one --mask, --box or --points, unless there is a --manifest.

    Args:
        image: Image file: PNG, JPEG, WebP, TIFF, BMP or GIF. For many images, give a --manifest
            instead.
        mask: Mask file of the image's size; repeat for more. A palette or integer PNG gives one
            region per non-zero label.
        box: X0,Y0,X1,Y1 in pixels of the image, X1 and Y1 exclusive; repeat for more. Boxes come
            after masks in the output.
        points: X,Y in pixels of the image, several of one region joined with colons, ",0" added to
            one that the region leaves out (120,80:140,95:30,30,0); repeat for more regions. They
            come after boxes.
        sam: Folder or hub id of a SAM or SAM 2 (facebook/sam-vit-base) that finds the regions of
            --points; null grows them by colour.
    """

    image: str | None = None
    mask: list[str] = field(default_factory=list)
    box: list[str] = field(default_factory=list)
    points: list[str] = field(default_factory=list)
    sam: str | None = None


@dataclass(frozen=True)
class Query(CaptionQuery):
    """what to look at; at least one --mask, --box or --points.

    Args:
        image: Image file: PNG, JPEG, WebP, TIFF, BMP or GIF.
    """

    image: str = field()  # a bare annotation would inherit the default


@dataclass(frozen=True)
class Bulk:
    """many images at once, on any number of processes; the output is the same for every number.

    Args:
        manifest: JSON lines {"image": path, "regions": [...], "id": optional}, paths relative to
            this file; a region is {"mask": path}, {"rle": {"size": [h, w], "counts": ...}},
            {"polygon": [[x0, y0, ...], ...]}, {"box": [x0, y0, x1, y1]} or {"points": [[x, y],
            ...]}, with an optional id. Or .tar files of WebDataset with regions in each .json, or
            .parquet files with these as columns; also as a quoted pattern, 'shards/*.tar' or
            '{000..009}.tar'.
        output: JSON lines to write, or Parquet if it ends in .parquet; one for each line of the
            manifest. Finished lines are kept in OUTPUT.parts until the end; a stopped run resumes
            when you repeat the command.
        devices: Number of processes, each on its own GPU or CPU core.
        workers: Threads that decode images in each process.
        ray: Run on a Ray cluster: the one at the address that follows (auto, HOST:PORT or
            ray://HOST:PORT), or without an address that of this machine, started if there is none.
        skip_bad: Write an error in place of an image or region that can't be read, and continue.
    """

    manifest: str | None = None
    output: str | None = None
    devices: int = 1
    workers: int = 1
    ray: bool | str = False
    skip_bad: bool = False


@dataclass(frozen=True)
class Model:
    """which model to use.

    Args:
        model: The bundled mini, a preset, or the folder or hub id of a bundle. caption also takes a
            LLaVA; match, embed and explain also the bundled mini-siglip, or a CLIP by its folder,
            hub id or open_clip name (ViT-B-16-quickgelu/openai). `regionlm models` lists them.
        device: auto, cpu, cuda, cuda:N or mps.
        offline: Only use files on this machine.
    """

    model: str = "mini"
    device: str = "auto"
    offline: bool = False


@dataclass(frozen=True, kw_only=True)
class ModelRun(TrunkOptions, Model):
    """which model to use, and how it is computed."""


@dataclass(frozen=True, kw_only=True)
class Embedding(
    AlphaClipOptions,
    ClipSurgeryOptions,
    MaskClipOptions,
    RisOptions,
    FgvpOptions,
    RedCircleOptions,
    MaskedCropOptions,
    MaskInversionOptions,
):  # from the last to the first, as a dataclass takes its fields
    """how regions become embeddings.

    Args:
        embedder: The method. Only maskinversion has a heatmap and says how well it found the region
            (dice and iou, null in JSON for the others).
    """

    embedder: Literal[tuple(EMBEDDER_OPTIONS)] = "maskinversion"  # type: ignore[valid-type]


@dataclass(frozen=True)
class Decoding(DecodeOptions):
    """how the caption is written.

    Args:
        prefix: Which of the model's prefixes (mini: adapted, zero-shot); null takes its default.
        prompt: What to ask a LLaVA about each region; null asks for a caption.
        seed: For sample: the same seed gives the same captions.
    """

    prefix: str | None = None
    prompt: str | None = None
    seed: Seed = 0


@dataclass(frozen=True)
class CaptionOutput:
    """what to write.

    Args:
        json: Print one JSON object, with log-probabilities and the figures that say how far to
            trust a caption (dice, iou, cosine_to_image).
        heatmap: Also draw each region's outline and relevance to this .png, .jpg or .webp file.
    """

    json: bool = False
    heatmap: str | None = None


@dataclass(frozen=True)
class MatchOutput:
    """what to compare with, and what to write.

    Args:
        text: Text to compare each region with; repeat for more.
        json: Print one JSON object.
    """

    text: list[str] = field(default_factory=list)
    json: bool = False


@dataclass(frozen=True)
class ExplainQuery(Query):
    """what to look for; at least one --text, --mask, --box or --points, or none with --relevance
    rollout.

    Args:
        text: Text to look for; repeat for more.
    """

    text: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Inversion(MaskInversionOptions):
    """how regions become embeddings, and whose maps are shown.

    Args:
        relevance: Method whose map is shown and, for regions, matched: `legrad`, `gradcam`,
            `gradcam_no_relu` or `chefer` [legrad]; or `rollout`, the one map of the model's
            attention, without --text, --mask, --box and --points, on which it does not depend.
    """

    relevance: Literal[RelevanceName, "rollout"] | None = None  # type: ignore[assignment]


@dataclass(frozen=True)
class ExplainOutput:
    """what to write.

    Args:
        output: Draw the maps over the image, side by side, to this .png, .jpg or .webp file.
        over_steps: With --output: draw a row for each region, with the maps of its embedding over
            the steps. Not with --text.
        json: Print one JSON object.
    """

    output: str | None = None
    over_steps: bool = False
    json: bool = False


@dataclass(frozen=True)
class EmbedOutput:
    """what to write.

    Args:
        output: The safetensors file: embeddings [M, d] float32, unnormalised, image_embedding [d],
            cosine_to_image [M] and, from maskinversion, dice and iou [M]; region names in its
            metadata.
    """

    output: str


@dataclass(frozen=True)
class Listing:
    """which models.

    Args:
        name: List the models whose names have this in them, on this machine or not, in upper or
            lower case, with wildcards ('*siglip*384') or without; several give those that fit any.
        all: List all models that can be loaded by name.
        json: Print one JSON object.
    """

    name: list[str] = field(default_factory=list)
    all: bool = False
    json: bool = False


@dataclass(frozen=True)
class ToolListing:
    """for which model.

    Args:
        format: `openai` and `anthropic`: what their APIs take as tools. `mcp`: what tools/list
            answers. `json-schema`: the schemas of the arguments alone.
    """

    format: Literal["openai", "anthropic", "mcp", "json-schema"] = "openai"


@dataclass(frozen=True, kw_only=True)
class McpServing(Bounds):
    """what an agent may ask for.

    Args:
        root: Only folder of which files are read, by paths relative to it; no link and no .. leads
            out of it.
        sam: Folder or hub id of a SAM or SAM 2 that finds the regions of points; null grows them by
            colour.
    """

    root: str = "."
    sam: str | None = None


@dataclass(frozen=True)
class Examination:
    """what to check.

    Args:
        model: Model to try out: any that caption or match takes.
        device: auto, cpu, cuda, cuda:N or mps.
        offline: Only use files on this machine; do not check whether the hub can be reached.
        json: Print one JSON object.
    """

    model: str = "mini"
    device: str = "auto"
    offline: bool = False
    json: bool = False


@dataclass(frozen=True, kw_only=True)
class Service(Settings):
    """how the service is reached, and what it writes with.

    Args:
        ray: Serve on a Ray cluster, with as many replicas as --devices says: on the one at the
            address that follows (auto, HOST:PORT or ray://HOST:PORT), or without an address on
            that of this machine, started if there is none.
        prefix: Which of the model's prefixes (mini: adapted, zero-shot); null takes its default.
        prompt: What to ask a LLaVA about each region; null asks for a caption.
    """

    ray: bool | str = False
    prefix: str | None = None
    prompt: str | None = None


@dataclass(frozen=True, kw_only=True)
class ServiceLimits(Limits):
    """what one request may ask for, and how much may wait."""
