"""RegionCaptioner: embedder and prefix model together, image + masks -> words or vectors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prefix_models.base import PrefixModel
from prefix_models.decoding.options import DecodeOptions, Generation
from prefix_models.generation import Heard
from regionlm.backbones.clip_vit import ClipViT
from regionlm.embedders.embedder import Embedder
from regionlm.embedders.localized import Localized, RegionEmbeddings
from regionlm.embedders.options import EMBEDDER_OPTIONS
from regionlm.encoder import RegionEncoder
from regionlm.errors import InputError, ModelError
from regionlm.inputs.views import ImageLike
from regionlm.pretrained.hub import BundleHubMixin
from regionlm.relevance.explanation import Explanation


@dataclass(frozen=True, eq=False)  # tensors can't be told equal by one word
class RegionCaption:
    """What a region shows, and how far to trust it.

    ``logprob`` is the natural-log probability of the caption. ``dice`` and ``iou`` [0, 1] say how
    well the relevance of the found embedding matches the mask; they are None for embedders other
    than maskinversion, which have no relevance. ``cosine_to_image`` [-1, 1] says how far that
    embedding is from the whole image's.
    """

    region: str
    text: str
    logprob: float
    dice: float | None
    iou: float | None
    cosine_to_image: float
    generation: Generation = field(repr=False)
    embedding: Tensor = field(repr=False)
    """``[d]``, unnormalised."""
    explanation: Explanation | None = field(repr=False)
    """The map of relevance; None for embedders other than maskinversion."""

    def to_dict(self) -> dict[str, str | float | None]:
        """What ``--json`` says of a region: JSON values, by name."""
        numbers = ("logprob", "dice", "iou", "cosine_to_image")
        return {
            "region": self.region,
            "caption": self.text,
            **{name: getattr(self, name) for name in numbers},
        }

    def heatmap(self) -> np.ndarray:
        """Relevance of every image pixel, float32 ``[H, W]`` in [0, 1].

        Raises:
            InputError: the embedder was not maskinversion.
        """
        if self.explanation is None:
            raise InputError(f"{self.region}: only the embedder maskinversion has relevance maps")
        return self.explanation.heatmap


class RegionCaptioner(BundleHubMixin, RegionEncoder):
    """Caption, match or embed regions of images with a frozen backbone and a prefix model.

    Args:
        backbone: see ``RegionEncoder``.
        prefix_model: turns embeddings of that backbone into text.
        rescale: bring embeddings to the image embedding's norm before the prefix model, which is
            what a captioner trained on image embeddings expects.
        name: shown in messages and reports.
        card: model card (README.md, Markdown) that a bundle of it carries.

    Raises:
        ModelError: the prefix model reads embeddings of another width or another encoder.
    """

    def __init__(
        self,
        backbone: ClipViT,
        prefix_model: PrefixModel,
        *,
        rescale: bool = True,
        name: str = "custom",
        card: str | None = None,
    ) -> None:
        wanted = prefix_model.config
        if wanted.embedding_dim != backbone.dim:
            raise ModelError(
                f"{name}: the prefix model reads embeddings of width {wanted.embedding_dim}, the "
                f"backbone {backbone.name} makes {backbone.dim}; use the backbone it was trained on"
            )
        if wanted.encoder and wanted.encoder != backbone.name:
            raise ModelError(
                f"{name}: the prefix model was trained on {wanted.encoder}, the backbone is "
                f"{backbone.name}; use that one, or name the backbone so if it is the same model"
            )
        super().__init__(backbone, name=name)
        self.prefix_model, self.rescale, self.card = prefix_model, rescale, card

    def save_pretrained(  # type: ignore[override]  # uploads are for push_to_hub
        self, folder: str | Path, **hub: Any
    ) -> None:
        """Write a bundle: weights, configuration, tokenizers. Whole or not at all.

        Args:
            folder: new, empty or that of an older bundle, which is replaced.
            **hub: what `push_to_hub` of huggingface_hub passes on, all None: a bundle has a
                configuration and a card of its own.

        Raises:
            InputError: an option that has a value.
            ModelError, PrefixModelError: the folder holds something else or can't be written, or
                the backbone's open_clip configuration isn't known.
        """
        from regionlm.pretrained.bundle import BundleParts, write_bundle

        for option, value in hub.items():
            if value is not None:
                raise InputError(f"{option}: not an option of save_pretrained, which has folder")
        parts = BundleParts(
            backbone=self.backbone,
            prefix_model=self.prefix_model,
            rescale=self.rescale,
            name=self.name,
            card=self.card,
        )
        write_bundle(parts, Path(folder))

    def caption(
        self,
        image: ImageLike,
        masks: Any,
        *,
        embedder: str | Embedder = "maskinversion",
        **options: Any,
    ) -> list[RegionCaption]:
        """Say what each region of one image shows.

        Args:
            image, masks, embedder: as in ``embed``.
            **options: of the embedder, as there; and of decoding, which say how the text is
                written: ``decoding``, ``max_new_tokens``, ``seed`` and the other fields of
                ``prefix_models.decoding.DecodeOptions``.

        Raises:
            InputError, PrefixModelError: image, mask or option that can't be used.
        """
        return self.caption_batch([image], [masks], embedder=embedder, **options)[0]

    def caption_batch(
        self,
        images: Sequence[ImageLike],
        masks_per_image: Sequence[Any],
        *,
        embedder: str | Embedder = "maskinversion",
        heard: Heard | None = None,
        **options: Any,
    ) -> list[list[RegionCaption]]:
        """`caption` for several images at once, decoded in one batch; same results.

        ``heard``: called with pieces of the captions as they are written, as `PrefixModel.generate`
        says; its rows are the regions of all images, in order.
        """
        embedding, decoding = split_options(options)
        DecodeOptions.from_dict(decoding)  # a bad option is named before the work, not after
        names, found = self._locate(list(images), list(masks_per_image), embedder, embedding)
        if not found:
            return []
        embeddings = torch.cat([self.prefix_embeddings(one) for one in found])
        texts = iter(self.prefix_model.generate(embeddings, heard=heard, **decoding))
        return [region_captions(some, texts, one) for some, one in zip(names, found, strict=True)]

    def stream(
        self,
        image: ImageLike,
        mask: Any,
        *,
        embedder: str | Embedder = "maskinversion",
        **options: Any,
    ) -> Iterator[str]:
        """Caption of one region in pieces, as it is written; arguments as in `caption`."""
        embedding, decoding = split_options(options)
        DecodeOptions.from_dict(decoding)
        found = self.embed(image, mask, embedder=embedder, **embedding)
        return self.prefix_model.stream(self.prefix_embeddings(found), **decoding)

    def prefix_embeddings(self, found: RegionEmbeddings) -> Tensor:
        """Embeddings ``[M, d]`` as the prefix model should see them."""
        return found.rescaled() if self.rescale else found.embeddings


def split_options(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of a caption: those of embedders, and those of decoding.

    Raises:
        InputError: one that is neither; the message lists all.
    """
    decoding = [one.name for one in fields(DecodeOptions)]
    embedding = {one.name for kind in EMBEDDER_OPTIONS.values() for one in fields(kind)}
    for name in options:
        if name not in decoding and name not in embedding:
            raise InputError(
                f"{name}: expected an option of the embedder or of decoding; embedders have"
                f" {', '.join(sorted(embedding))}; decoding has {', '.join(decoding)}"
            )
    return (
        {name: value for name, value in options.items() if name in embedding},
        {name: value for name, value in options.items() if name not in embedding},
    )


def region_captions(
    names: Sequence[str], texts: Iterable[Generation], found: RegionEmbeddings
) -> list[RegionCaption]:
    """What the regions of an image and the texts written for them say together.

    ``texts`` may be an iterator that continues with those of other images.
    """
    maps: Sequence[Explanation | None] = [None] * len(names)
    if isinstance(found, Localized):
        maps = found.explanations(names)
    return [
        RegionCaption(
            region=name,
            text=text.text,
            logprob=text.logprob,
            dice=explanation.dice if explanation else None,
            iou=explanation.iou if explanation else None,
            cosine_to_image=cosine,
            generation=text,
            embedding=embedding,
            explanation=explanation,
        )
        for name, explanation, cosine, embedding, text in zip(
            names, maps, found.cosine_to_image.tolist(), found.embeddings, texts, strict=False
        )
    ]
