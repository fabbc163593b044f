"""Answers of the Python API as JSON."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from regionlm.embedders.embedder_registry import as_embedder
from regionlm.embedders.options import EMBEDDER_OPTIONS, ROLLOUT
from regionlm.relevance.explanation import undrawn

if TYPE_CHECKING:
    from regionlm.captioner import RegionCaption
    from regionlm.embedders.localized import RegionEmbeddings
    from regionlm.encoder import RegionMatch
    from regionlm.inputs.masks import Region
    from regionlm.relevance.explanation import Explanation
    from regionlm.serve.question import Question


def about(model: Any, question: Question) -> dict[str, str]:
    """What every reply says of how it was found: the model, another embedder than maskinversion,
    and what is not exact.

    Raises:
        InputError: an option that the embedder does not have, or that is out of range.
    """
    options = dict(question.options)
    name = options.pop("embedder", "maskinversion")
    said = {"model": model.name} | ({"embedder": name} if name != "maskinversion" else {})
    if options.get("relevance") == ROLLOUT:
        return said
    own = {one.name for one in fields(EMBEDDER_OPTIONS[name])}
    chosen = {key: value for key, value in options.items() if key in own}
    return {**said, **as_embedder(name, model.backbone, **chosen).record}


def png_uri(values: np.ndarray) -> str:
    """A map [H, W] in [0, 1], or bool, as the data: URI of a greyscale PNG of the same size."""
    file = io.BytesIO()
    Image.fromarray((255 * np.asarray(values, np.float32)).round().astype(np.uint8)).save(
        file, "PNG"
    )
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def caption_row(found: RegionCaption, heatmap: bool) -> dict[str, Any]:
    """What a reply says of a region's caption. Raises InputError: no heatmap."""
    row: dict[str, Any] = found.to_dict()
    return {**row, "heatmap": png_uri(undrawn(found).heatmap())} if heatmap else row


def match_row(found: RegionMatch) -> dict[str, Any]:
    """What a reply says of the texts that fit a region."""
    return {
        "region": found.region,
        "probabilities": list(found.probabilities),
        "similarities": list(found.similarities),
    }


def explain_row(found: Explanation, regions: Sequence[Region]) -> dict[str, Any]:
    """What a reply says of a map; of a text's also how it points at the regions asked about."""
    found = undrawn(found)  # whose map ends with this row
    row = {"kind": "region", "dice": None, "iou": None, **found.to_dict()}
    if found.dice is None:
        row["kind"] = "text"
        row["pointing"] = [
            {
                "region": region.name,
                "peak_inside": found.points_into(region.mask),
                "share_inside": found.share_in(region.mask),
            }
            for region in regions
        ]
    return {**row, "heatmap": png_uri(found.heatmap)}


def embedding_rows(
    found: RegionEmbeddings, names: Sequence[str], encoding: str
) -> list[dict[str, Any]]:
    """Embeddings in OpenAI's form, with what is known of each region."""
    vectors = found.embeddings.float().cpu().numpy().astype("<f4")
    figures = {name: _listed(found, name) for name in ("dice", "iou", "cosine_to_image")}
    return [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(vector.tobytes()).decode()
            if encoding == "base64"
            else vector.tolist(),
            "region": name,
            **{key: values[index] for key, values in figures.items()},
        }
        for index, (name, vector) in enumerate(zip(names, vectors, strict=True))
    ]


def embedding_file(found: RegionEmbeddings, names: Sequence[str], said: dict[str, str]) -> bytes:
    """The bytes of the file that `regionlm embed` writes, without the image's path."""
    from safetensors.torch import save

    kept = ["embeddings", "image_embedding", "cosine_to_image"]
    kept += [name for name in ("dice", "iou") if hasattr(found, name)]
    tensors = {name: getattr(found, name).float().cpu().contiguous() for name in kept}
    return save(tensors, {**said, "regions": json.dumps(list(names))})


def _listed(found: RegionEmbeddings, name: str) -> list[float | None]:
    values = getattr(found, name, None)
    return [None] * len(found.embeddings) if values is None else values.tolist()
