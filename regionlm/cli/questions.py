"""Shared by the commands about one image: reading regions, loading the model, printing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from regionlm.cli.options import CaptionQuery, Embedding, Model
from regionlm.cli.together import own_options
from regionlm.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image

    from regionlm.embedders.embedder import Embedder
    from regionlm.encoder import RegionEncoder
    from regionlm.inputs.masks import Region
    from regionlm.llava_captioner import LlavaCaptioner


def read_question(query: CaptionQuery, *, needs_region: bool = True) -> tuple[Image, list[Region]]:
    """The image and its regions; InputError where one is missing or can't be read."""
    from regionlm.inputs.images import open_image
    from regionlm.inputs.masks import box_region, read_regions

    if query.image is None:
        raise InputError("no image given: add its file, or --manifest FILE for many images")
    if needs_region and not query.mask and not query.box:
        raise InputError("no region given: add --mask M.png or --box X0,Y0,X1,Y1")
    image = open_image(query.image)
    regions = [region for path in query.mask for region in read_regions(path, image.size)]
    return image, regions + [box_region(box, image.size) for box in query.box]


def input_files(query: CaptionQuery, embedding: Embedding) -> list[str | Path | None]:
    """All files that a command reads, which no output may replace."""
    return [query.image, *query.mask, embedding.checkpoint]


def load_encoder(model: Model) -> RegionEncoder:
    """The model's backbone. Raises ModelError."""
    from regionlm.encoder import RegionEncoder

    return RegionEncoder.from_pretrained(model.model, device=model.device, offline=model.offline)


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
