"""Shared by the commands about one image: reading regions, loading the model, printing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from regionlm.cli.options import CaptionQuery, Embedding, Model, ModelRun
from regionlm.cli.together import own_options
from regionlm.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image

    from regionlm.embedders.embedder import Embedder
    from regionlm.encoder import RegionEncoder
    from regionlm.inputs.masks import Region
    from regionlm.llava_captioner import LlavaCaptioner


def read_question(
    query: CaptionQuery, model: Model, *, needs_region: bool = True
) -> tuple[Image, list[Region]]:
    """The image and its regions; InputError where one is missing or can't be read.

    model: says where a SAM runs, and whether it may be downloaded.
    """
    from regionlm.inputs.images import open_image
    from regionlm.inputs.masks import box_region, read_regions

    if query.image is None:
        raise InputError("no image given: add its file, or --manifest FILE for many images")
    if needs_region and not has_regions(query):
        raise InputError("no region given: add --mask M.png, --box X0,Y0,X1,Y1 or --points X,Y")
    if query.sam is not None and not query.points:
        raise InputError("--sam goes with --points; add --points X,Y, or leave it out")
    image = open_image(query.image)
    regions = [region for path in query.mask for region in read_regions(path, image.size)]
    regions += [box_region(box, image.size) for box in query.box]
    return image, regions + _marked(query, model, image)


def has_regions(query: CaptionQuery) -> bool:
    """Whether any region is asked about."""
    return bool(query.mask or query.box or query.points)


def _marked(query: CaptionQuery, model: Model, image: Image) -> list[Region]:
    """The regions of --points."""
    from regionlm.inputs.masks import Region
    from regionlm.inputs.points import parse_points, points_name, read_points
    from regionlm.points.segmenter import load_segmenter

    asked = [read_points(parse_points(text), image.size) for text in query.points]
    if not asked:
        return []
    segmenter = load_segmenter(query.sam, device=model.device, offline=model.offline)
    return [Region(points_name(points), segmenter.mask(image, points)) for points in asked]


def input_files(query: CaptionQuery, embedding: Embedding) -> list[str | Path | None]:
    """All files that a command reads, which no output may replace."""
    return [query.image, *query.mask, embedding.checkpoint]


def load_encoder(model: ModelRun) -> RegionEncoder:
    """The model's backbone. Raises InputError, ModelError."""
    from regionlm import auto

    return auto.load_encoder(
        model.model, trunk=model.trunk, device=model.device, offline=model.offline
    )


def check_fit(model: ModelRun, embedder: str, options: Mapping[str, Any]) -> None:
    """Raise InputError or ModelError, before a model is loaded, for options of an embedder that
    do not go with it, as far as its configuration is on this machine."""
    from regionlm.embedders import embedder_registry
    from regionlm.pretrained.outlines import outline_backbone

    backbone = outline_backbone(model.model)
    if backbone is not None:
        embedder_registry.check_fit(embedder, backbone, **options)


def check_captioner_fit(model: ModelRun, embedding: Embedding) -> None:
    """`check_fit` for a model that captions, which may be a LLaVA."""
    from regionlm.pretrained.outlines import outline_llava

    backbone = outline_llava(model.model)
    if backbone is None:
        check_fit(model, embedding.embedder, own_options(embedding))
        return
    from regionlm.llava_captioner import llava_inversion

    llava_inversion(model.model, backbone, embedding.embedder, **own_options(embedding))


def chosen_embedder(embedding: Embedding, model: RegionEncoder | LlavaCaptioner) -> Embedder:
    """The embedder asked for, on the model's backbone. Raises InputError, ModelError."""
    from regionlm.embedders.embedder_registry import make_embedder

    return make_embedder(embedding.embedder, model.backbone, **own_options(embedding))


def question_asked(
    query: CaptionQuery, model: Model, embedding: Embedding, used: Embedder
) -> dict[str, str]:
    """The part of JSON answers and files that repeats the question, and how it was answered."""
    asked = {"image": str(query.image), "model": model.model}
    if embedding.embedder != Embedding().embedder:
        asked["embedder"] = embedding.embedder
    return {**asked, **used.record}


def print_lines(query: CaptionQuery, names: Sequence[str], lines: Sequence[str]) -> None:
    """A line for each region, with its name where there are several."""
    is_label = bool(query.mask) and names[0] not in query.mask
    for name, line in zip(names, lines, strict=True):
        line = " ".join(line.split())  # one line a region, whatever a language model writes
        print(f"{name}: {line}" if len(lines) > 1 or is_label else line)
