"""Captions of regions from an unmodified LLaVA-1.5, by choosing and weighting its patch tokens.

Why so. A LET lives in CLIP's joint space; LLaVA's projector reads patch tokens of a layer before
it, of another width, so a LET can't be put in their place. But the relevance map that MaskInversion
finds lies on the very patches that LLaVA reads, of the same tower and the same forward, and says
which of them the region's embedding rests on. So every token stays one that the projector and the
language model know, and the map decides which of them are seen and how much each counts:

1. the tower runs once; LLaVA's tokens and the last block's input, on which relevance is explained,
   are both among its hidden states;
2. MaskInversion finds the region's map on them (the tower has no projection to a joint space, so
   the token is looked for before it, where the pooled [CLS] is);
3. `patch_weights` turns map and mask into a weight for each patch;
4. tokens below ``least_weight`` are left out, and a token of weight w is to all attention of the
   language model what w such tokens would be (log w is added to its scores). Scaling the tokens
   instead would do little: the first thing a Llama does is to normalise them.

A mask of the whole image leaves nothing out and weighs nothing down: the answer is the model's
ordinary one, token for token.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from prefix_models.checks import Range, check_value
from prefix_models.decoding.options import DecodeOptions
from prefix_models.generation import Heard
from prefix_models.llava import PROMPT, LlavaReader, load_llava
from regionlm.backbones.hf_clip_vit import HfClipViT
from regionlm.backbones.vision import EncodedImages
from regionlm.captioner import RegionCaption, region_captions, split_options
from regionlm.embedders.coverage import mask_coverage
from regionlm.embedders.embedder import Embedder
from regionlm.embedders.embedder_registry import as_embedder
from regionlm.embedders.localized import Localized
from regionlm.embedders.maskinversion import MaskInversion
from regionlm.errors import InputError
from regionlm.inputs.masks import as_regions
from regionlm.inputs.probing import input_to_picture
from regionlm.inputs.views import ImageLike, ImageView, as_view
from regionlm.relevance.patch_weights import patch_weights


@dataclass(frozen=True)
class SeenImage:
    """What the tower's one forward says of an image: LLaVA's tokens, and what relevance needs; and
    where the processor put its pixels."""

    tokens: Tensor
    """``[T, hidden]``: the projected tokens of the whole image."""
    encoded: EncodedImages
    to_picture: tuple[Tensor, Tensor]
    """``[H, h]`` and ``[W, w]``, from pixels of the tower's input to those of the image."""


@dataclass(frozen=True)
class RegionPatches:
    """What each of M regions of an image shows the language model."""

    names: list[str]
    found: Localized
    """Heatmaps are as large as the image, and 0 where the processor cuts it off."""
    tokens: Tensor
    """``[T, hidden]``: the projected tokens of the whole image."""
    weights: Tensor
    """``[M, T]`` in [0, 1]; 0 is left out."""


class LlavaCaptioner:
    """Caption regions of images with a LLaVA that knows nothing of regions.

    Args:
        reader: the model and its processor.
        prompt: what to ask about each region; words only.
        least_weight: patch tokens that count less are left out, in (0, 1]. 1 leaves only as many as
            the mask is large.
        name: shown in messages and reports.

    Raises:
        ModelError: an image tower that isn't CLIP's. InputError: an option out of range.
    """

    def __init__(
        self,
        reader: LlavaReader,
        *,
        prompt: str = PROMPT,
        least_weight: float = 0.5,
        name: str = "custom",
    ) -> None:
        share = Annotated[float, Range(above=0, most=1)]
        least_weight = check_value("least_weight", least_weight, share, InputError)
        self.reader, self.prompt, self.least_weight, self.name = reader, prompt, least_weight, name
        processor = reader.processor.image_processor
        self.backbone = HfClipViT(
            reader.lm.model.vision_tower,
            mean=processor.image_mean,
            std=processor.image_std,
            name=f"{name}: image tower",
        )

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        prompt: str = PROMPT,
        least_weight: float = 0.5,
        device: str | torch.device = "auto",
        dtype: torch.dtype | None = None,
        offline: bool = False,
    ) -> LlavaCaptioner:
        """Load a ``LlavaForConditionalGeneration``, such as ``llava-hf/llava-1.5-7b-hf``.

        Args:
            source: folder or hub id.
            prompt, least_weight: see the class.
            device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"mps"``.
            dtype: of the weights; None means as saved.
            offline: only use files on this machine.

        Raises:
            ModelError, PrefixModelError: files are missing, damaged or of another kind of model.
        """
        from regionlm.devices import resolve_device

        reader = load_llava(source, device=resolve_device(device), dtype=dtype, offline=offline)
        return cls(reader, prompt=prompt, least_weight=least_weight, name=Path(source).name)

    def encode(self, image: ImageLike) -> ImageView:
        """Run the tower on an image once, for any number of questions; see `RegionEncoder.encode`.

        Raises:
            InputError: an image that can't be used.
        """
        view = as_view(image)
        self._see(view)
        return view

    def caption(
        self,
        image: ImageLike,
        masks: Any,
        *,
        prompt: str | None = None,
        embedder: str | Embedder = "maskinversion",
        heard: Heard | None = None,
        **options: Any,
    ) -> list[RegionCaption]:
        """Say what each region of one image shows; see `RegionCaptioner.caption`.

        Args:
            image, masks: as there.
            prompt: instead of the captioner's own.
            embedder: ``"maskinversion"``, or one with options of its own on this ``backbone``: only
                it has relevance maps.
            heard: called with the number of a region and a piece of its caption as it is written.
            **options: as there; but there is no ``size`` or ``resize``, which are the processor's.

        Returns:
            Captions; ``embedding`` is before the joint space, and heatmaps are 0 where the model's
            processor cuts the image off.

        Raises:
            InputError, PrefixModelError: image, mask or option that can't be used.
        """
        inversion, decoding = split_options(options)
        DecodeOptions.from_dict(decoding)  # a bad option is named before the work, not after
        shown = self.look(image, masks, embedder=embedder, **inversion)
        kept = [weights > 0 for weights in shown.weights]
        texts = self.reader.answer(
            self.prompt if prompt is None else prompt,
            [shown.tokens[some] for some in kept],
            [weights[some] for weights, some in zip(shown.weights, kept, strict=True)],
            heard=heard,
            **decoding,
        )
        return region_captions(shown.names, texts, shown.found)

    def stream(
        self,
        image: ImageLike,
        mask: Any,
        *,
        prompt: str | None = None,
        embedder: str | Embedder = "maskinversion",
        **options: Any,
    ) -> Iterator[str]:
        """Caption of one region in pieces, as it is written; arguments as in `caption`."""
        inversion, decoding = split_options(options)
        DecodeOptions.from_dict(decoding)
        shown = self.look(image, mask, embedder=embedder, **inversion)
        if len(shown.names) != 1:
            raise InputError(f"stream: expected one region, found {len(shown.names)}")
        kept = shown.weights[0] > 0
        return self.reader.stream_answer(
            self.prompt if prompt is None else prompt,
            shown.tokens[kept],
            shown.weights[0][kept],
            **decoding,
        )

    def look(
        self,
        image: ImageLike,
        masks: Any,
        *,
        embedder: str | Embedder = "maskinversion",
        **options: Any,
    ) -> RegionPatches:
        """What each region shows the language model; arguments as in `caption`, but for those of
        decoding."""
        inversion = self._inversion(embedder, **options)
        view = as_view(image)
        regions = as_regions(masks, view.size)
        with torch.inference_mode(False), torch.no_grad():
            laid = torch.cat([self._lay(Image.fromarray(region.mask)) for region in regions])
            lost = [r.name for r, one in zip(regions, laid, strict=True) if not one.any()]
            if lost:
                raise InputError(
                    f"{lost[0]}: covers nothing of what {self.name}'s processor lets the model see"
                    " (it crops or shrinks the image); give a larger region, or a processor with"
                    " do_pad"
                )
            seen = self._see(view)
            encoded = seen.encoded
            (found,) = inversion.invert(encoded, [laid])
            found = replace(found, resize=found.resize.seen_through(*seen.to_picture))
            whole = self._lay(Image.new("L", view.size, 255))
            weights = patch_weights(
                found.relevance,
                mask_coverage(laid, encoded.grid).to(found.relevance.device),
                mask_coverage(whole, encoded.grid)[0].to(found.relevance.device),
            )
            weights = torch.where(weights < self.least_weight, 0.0, weights)
        others = len(seen.tokens) - weights.shape[1]  # [CLS], where the model reads it: of no place
        weights = F.pad(weights, (others, 0), value=1.0)
        return RegionPatches([region.name for region in regions], found, seen.tokens, weights)

    def _see(self, view: ImageView) -> SeenImage:
        key = (self.backbone, SeenImage)
        if key not in view:
            with torch.inference_mode(False), torch.no_grad():
                pixels = self._process(view.image)
                self.backbone.check_size(pixels)
                tokens, states = self.reader.see(pixels)
                encoded = self.backbone.encode_tokens(states[-2], self.backbone.grid)
                to_picture = input_to_picture(self._process_shades, view.size)
                view.keep(key, SeenImage(tokens, encoded, to_picture))
        seen: SeenImage = view[key]
        return seen

    def _inversion(self, embedder: str | Embedder, **options: Any) -> MaskInversion:
        return llava_inversion(self.name, self.backbone, embedder, **options)

    # --- the processor's geometry: squash, crop or pad, whatever it does to pictures

    def _process(self, picture: Image.Image, **options: Any) -> Tensor:
        process = self.reader.processor.image_processor
        pixels: Tensor = process(picture.convert("RGB"), return_tensors="pt", **options)[
            "pixel_values"
        ]
        return pixels

    def _lay(self, mask: Image.Image) -> Tensor:
        """A mask of the picture as bool ``[1, H, W]`` of the tower's input, padding false."""
        shades = self._process_shades(mask)[:1]
        return (shades >= shades.amax().clamp(max=127.5)) & (shades > 0)  # however thin it is

    def _process_shades(self, picture: Image.Image) -> Tensor:
        """The shades ``[3, H, W]``, 0 to 255, that the tower's input is made of, padding 0."""
        (shades,) = self._process(
            picture,
            do_rescale=False,
            do_normalize=False,
            resample=Image.Resampling.BILINEAR,
            image_mean=[0.0, 0.0, 0.0],  # also what is padded with
        )
        return shades.float()


def llava_inversion(
    name: str, backbone: HfClipViT, embedder: str | Embedder, **options: Any
) -> MaskInversion:
    """The embedder of a LLaVA; its backbone may be without memory.

    Raises:
        InputError: another embedder than maskinversion, or options that a LLaVA can't have.
    """
    chosen = as_embedder(embedder, backbone, **options)
    if not isinstance(chosen, MaskInversion):
        raise InputError(
            f"embedder: {name} reads relevance maps, which only maskinversion has, found"
            f" {type(chosen).__name__}; leave it out"
        )
    if chosen.size != backbone.default_size:
        raise InputError(
            f"size: {name} sees {backbone.default_size[0]} pixels a side, found"
            f" {chosen.size[0]} x {chosen.size[1]}; leave the size out"
        )
    if chosen.resize != "squash":
        raise InputError(
            f"resize: {name} has a processor that resizes images, found {chosen.resize}; leave it"
            " out"
        )
    return chosen
