"""RegionEncoder: image + regions -> vectors, and the texts that fit them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from regionlm.backbones.clip_vit import ClipViT
from regionlm.backbones.text_tokenizers import refuse_unknown
from regionlm.embedders.embedder import Embedder
from regionlm.embedders.embedder_registry import as_embedder
from regionlm.embedders.localized import RegionEmbeddings
from regionlm.embedders.maskinversion import MaskInversion
from regionlm.embedders.options import ROLLOUT, EmbedderOptions, finding_options
from regionlm.errors import InputError, ModelError
from regionlm.inputs.masks import as_regions
from regionlm.inputs.placement import place
from regionlm.inputs.texts import refuse_empty
from regionlm.inputs.views import ImageLike, ImageView, as_view
from regionlm.relevance.explanation import Explanation
from regionlm.relevance.resize import GridToMask
from regionlm.relevance.rollout import attention_rollout

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class RegionMatch:
    """How well texts fit a region.

    ``similarities``: cosines of the region's embedding with each text's; ``probabilities``: their
    softmax at the backbone's logit scale, also for models trained with sigmoids (SigLIP), which
    would judge each text by itself. Their bias, being the same for all texts, changes nothing here.
    """

    region: str
    probabilities: list[float]
    similarities: list[float]


class RegionEncoder:
    """Embed regions of images with a frozen backbone, and match them with texts.

    It does all that needs no prefix model; ``RegionCaptioner`` can do the same.

    Args:
        backbone: the frozen encoder; its ``inversion_defaults`` are the defaults of MaskInversion's
            options.
        name: shown in messages and reports.
    """

    def __init__(self, backbone: ClipViT, *, name: str = "custom") -> None:
        self.backbone, self.name = backbone, name

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path = "mini",
        *,
        device: str | torch.device = "auto",
        offline: bool = False,
        **hub: Any,
    ) -> Self:
        """Load a backbone, including that of a bundle or preset.

        Args:
            source: as `regionlm.pretrained.backbones.read_backbone` takes it.
            device: ``"auto"`` takes CUDA, then MPS, then the CPU.
            offline: only use files on this machine.
            **hub: for a hub id, ``revision`` (branch, tag or commit), ``token``, ``cache_dir`` and
                ``force_download``, as huggingface_hub takes them.

        Raises:
            ModelError: unknown name, or missing, damaged or mismatched files.
            InputError: an unknown option, or one of the hub for a model that is not there.
        """
        from regionlm.pretrained.backbones import read_backbone
        from regionlm.pretrained.sources import check_hub_options

        check_hub_options(source, hub, "source, device, offline")
        backbone = read_backbone(source, device=device, offline=offline, hub=hub)
        return cls(backbone, name=backbone.name)

    def encode(
        self, image: ImageLike, *, embedder: str | Embedder = "maskinversion", **options: Any
    ) -> ImageView:
        """Run the model on an image once, for any number of questions about its regions.

        Args:
            image: PIL image, path, array or tensor, as ``regionlm.inputs.images.as_image`` says; or
                a view, to which this embedder's encoding is added.
            embedder, **options: as in ``embed``. Of the options only those matter that change what
                is seen of the whole image: of maskinversion, ``size``, ``resize`` and ``layers``.

        Returns:
            A view, which all methods take in place of the image. A question that needs something
            else (another size, another embedder) adds it to the view when it is first asked.

        Raises:
            InputError: image or option that can't be used. ModelError: as ``embed``.
        """
        return self.encode_batch([image], embedder=embedder, **options)[0]

    def encode_batch(
        self,
        images: Sequence[ImageLike],
        *,
        embedder: str | Embedder = "maskinversion",
        **options: Any,
    ) -> list[ImageView]:
        """`encode` for several images at once, which share forwards; same results."""
        chosen = self._embedder(embedder, options)
        views = [as_view(image) for image in images]
        chosen.encode(views)
        return views

    def embed(
        self,
        image: ImageLike,
        masks: Any,
        *,
        embedder: str | Embedder = "maskinversion",
        **options: Any,
    ) -> RegionEmbeddings:
        """Embeddings of the regions of one image; a ``Localized`` from maskinversion.

        Args:
            image: PIL image, path, array or tensor, as ``regionlm.inputs.images.as_image`` says, or
                what ``encode`` made of one.
            masks: whatever ``regionlm.inputs.masks.as_masks`` reads, in image pixels.
            embedder: a name in ``regionlm.embedders.EMBEDDERS``, or a ready embedder
                (``make_embedder``).
            **options: of the embedder, if it is given by name: the fields of its class in
                ``regionlm.embedders.options``, such as ``steps``, ``lr``, ``alpha`` and ``size`` of
                ``MaskInversionOptions``. Those left out or None take the bundle's default.

        Raises:
            InputError: image, mask or option that can't be used. ModelError: an embedder of
                another joint space.
        """
        return self._locate([image], [masks], embedder, options)[1][0]

    def match(
        self,
        image: ImageLike,
        masks: Any,
        texts: Sequence[str],
        *,
        embedder: str | Embedder = "maskinversion",
        **options: Any,
    ) -> list[RegionMatch]:
        """Compare each region with texts; other arguments as in `embed`.

        Raises as there, and InputError for an empty text, or one with words that the model does not
        know.
        """
        texts = texts if isinstance(texts, str) else list(texts)  # a generator is read once
        view = as_view(image)
        regions = as_regions(masks, view.size)
        words = torch.nn.functional.normalize(self._embed_texts(texts), dim=1)
        found = self.embed(view, regions, embedder=embedder, **options)
        cosines = torch.nn.functional.normalize(found.embeddings, dim=1) @ words.T
        probabilities = (self.backbone.logit_scale * cosines).softmax(1)
        rows = zip(regions, probabilities.tolist(), cosines.tolist(), strict=True)
        return [RegionMatch(region.name, shares, cosine) for region, shares, cosine in rows]

    def explain(
        self,
        image: ImageLike,
        masks: Any = None,
        *,
        texts: Sequence[str] = (),
        embedder: str | MaskInversion = "maskinversion",
        **options: Any,
    ) -> list[Explanation]:
        """Where an image is relevant to texts, and to the embeddings of regions.

        Args:
            image, masks: as in `embed`; the masks may be left out.
            texts: what to look for; may be left out where there are masks.
            embedder, **options: of maskinversion, the only one with maps: ``relevance``, ``score``,
                ``size`` and ``resize`` decide them; ``steps=0`` shows where the optimisation
                begins. ``relevance="rollout"``, with ``size`` and ``resize`` alone, gives the one
                map of `regionlm.relevance.rollout`, which depends on no text or mask.

        Returns:
            One for each text, then one for each region, in their order.

        Raises:
            InputError: as `match`; another embedder; neither texts nor masks; an empty text; an
                option that has no effect without masks. ModelError: as `match`.
        """
        texts = texts if isinstance(texts, str) else list(texts)
        if options.get("relevance") == ROLLOUT:
            if texts or masks is not None or embedder != "maskinversion":
                raise InputError(
                    "relevance: rollout is the same for all texts and regions, and is inverted by"
                    " no embedder; leave them out, or take another method"
                )
            return [self._rolled_out(as_view(image), options)]
        chosen = self._embedder(embedder, options)
        if not isinstance(chosen, MaskInversion):
            raise InputError(
                f"embedder: expected maskinversion, which has relevance maps, found {embedder}"
            )
        if not texts and masks is None:
            raise InputError("explain: expected texts, masks or both, found neither")
        refuse_empty(texts)
        finding = finding_options(options)
        if masks is None and finding:
            raise InputError(f"{finding[0]}: is for regions; give masks, or leave it out")
        view = as_view(image)
        regions = [] if masks is None else as_regions(masks, view.size)
        found: list[Explanation] = []
        if texts:
            tokens = self._embed_texts(texts)
            maps, resize = chosen.explain(view, tokens, (view.size[1], view.size[0]))
            found += [Explanation(text, one, resize) for text, one in zip(texts, maps, strict=True)]
        if regions:
            located = chosen(view, np.stack([region.mask for region in regions]))
            found += located.explanations([region.name for region in regions])
        return found

    def _rolled_out(self, view: ImageView, options: dict[str, Any]) -> Explanation:
        """The map of an image's attention, at the size at which MaskInversion looks at it."""
        given = {name: value for name, value in options.items() if name != "relevance"}
        EmbedderOptions.read(given, f"the relevance {ROLLOUT}")
        looks = MaskInversion(self.backbone, **given)
        pixels = self.backbone.preprocess(view.image, looks.size, looks.resize)
        found = attention_rollout(self.backbone, pixels)
        placed = place(view.size, looks.size, self.backbone.patch_size, looks.resize)
        size, patch = (view.size[1], view.size[0]), self.backbone.patch_size
        grid = (found.shape[0], found.shape[1])
        return Explanation(ROLLOUT, found, GridToMask.of(grid, patch, size, found, placed))

    def _locate(
        self,
        images: Sequence[ImageLike],
        masks_per_image: Sequence[Any],
        embedder: str | Embedder,
        options: dict[str, Any],
    ) -> tuple[list[list[str]], list[RegionEmbeddings]]:
        """Names and embeddings of the regions of each image."""
        if len(images) != len(masks_per_image):
            raise InputError(
                f"expected masks for each of {len(images)} images, found {len(masks_per_image)}"
                " sets"
            )
        chosen = self._embedder(embedder, options)
        views = [as_view(image) for image in images]
        regions = [
            as_regions(masks, view.size) for masks, view in zip(masks_per_image, views, strict=True)
        ]
        stacks = [np.stack([region.mask for region in some]) for some in regions]
        names = [[region.name for region in some] for some in regions]
        return names, chosen.localize_batch(views, stacks)

    def _embed_texts(self, texts: Sequence[str]) -> Tensor:
        refuse_empty(texts)
        embeddings = self.backbone.embed_texts(texts)
        refuse_unknown(self.backbone.tokenizer, texts, self.name)
        return embeddings

    def _embedder(self, embedder: str | Embedder, options: dict[str, Any]) -> Embedder:
        chosen = as_embedder(embedder, self.backbone, **options)
        if chosen.backbone.dim != self.backbone.dim:
            raise ModelError(
                f"{self.name}: the embedder makes vectors of width {chosen.backbone.dim}, the"
                f" backbone {self.backbone.name} of {self.backbone.dim}"
            )
        return chosen
