"""The interface of all methods that turn an image and masks into vectors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby, islice
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from regionlm.backbones.sizes import resolve_size
from regionlm.backbones.vision import VisionBackbone
from regionlm.embedders.inputs import check_masks
from regionlm.embedders.localized import RegionEmbeddings
from regionlm.embedders.options import EmbedderOptions
from regionlm.errors import InputError, ModelError
from regionlm.inputs.placement import Placement, Resize, place
from regionlm.inputs.views import ImageView

AT_ONCE = 8  # images, crops or masks in one forward: bounds memory, whatever their number

Found = TypeVar("Found", bound=RegionEmbeddings)
Seen = TypeVar("Seen")
EmbedderImage: TypeAlias = Image.Image | ImageView | Tensor
"""An image as an embedder takes it, see ``Embedder.__call__``."""


class Embedder(ABC, Generic[Found]):
    """Embeds regions of images in the joint space of a frozen backbone.

    The backbone's model is not changed and no gradient is kept, so it works in any grad mode; a
    surrounding autocast has no effect.

    Args:
        backbone: the model that embeds.
        **options: the fields of the class's ``options_type``. All have ``size`` and ``resize``;
            their defaults are those of the backbone's ``inversion_defaults``, else the model's own
            size, and ``"squash"``.

    Raises:
        InputError: an option out of range.
    """

    options_type: ClassVar[type[EmbedderOptions]] = EmbedderOptions
    options: EmbedderOptions
    """As used: what depends on the backbone is settled, but for ``size`` and ``resize``, which are
    the embedder's own."""

    def __init__(self, backbone: VisionBackbone, **options: Any) -> None:
        self.backbone = backbone
        self.options = self.options_type(**options)
        size = self.options.size
        if size is None:
            size = backbone.inversion_defaults.get("size", backbone.default_size)
        self.size = resolve_size(size, backbone.patch_size)
        resize = self.options.resize or backbone.inversion_defaults.get("resize")
        self.resize: Resize = EmbedderOptions(resize=resize).resize or "squash"

    def __call__(self, image: EmbedderImage, masks: np.ndarray | Tensor) -> Found:
        """Embed the regions of one image.

        Args:
            image: a PIL image (any size; brought to ``size`` by ``resize``), a view of one, or
                pixels ``[3, H, W]`` already preprocessed by ``backbone.preprocess`` (used at their
                own size, as filled by the image; not for embedders that cut or paint the picture).
            masks: bool (or 0/1) ``[M, H, W]``, each with at least one pixel; of the image's size,
                unless it is given as pixels.

        Raises:
            InputError: an image or mask that can't be used (says which). ModelError: weights that
                hold or produce NaN or Inf.
        """
        return self.localize_batch([image], [masks])[0]

    def localize_batch(
        self,
        images: Sequence[EmbedderImage],
        masks_per_image: Sequence[np.ndarray | Tensor],
    ) -> list[Found]:
        """Embed the regions of several images; they share forwards where they can.

        Same results, arguments and errors as one call per image.
        """
        if len(images) != len(masks_per_image):
            raise InputError(
                f"expected one set of masks per image, found {len(images)} images and"
                f" {len(masks_per_image)} sets of masks"
            )
        with self._exact():
            masks = [
                check_masks(some, _as_given(image))
                for image, some in zip(images, masks_per_image, strict=True)
            ]
            found = list(self._embed(images, masks))
            for one in found:
                self._check_finite(one.image_embedding)
                self._check_finite(one.embeddings)
        return found

    def encode(self, views: Sequence[ImageView]) -> None:
        """Compute what does not depend on regions for some images, and keep it in the views.

        Embedders that make a picture for each region can compute nothing before they know them.

        Raises:
            InputError: an image that can't be used. ModelError: as ``__call__``.
        """

    @property
    def record(self) -> dict[str, str]:
        """What answers say of how they were found: by name, empty if they are exact."""
        return self.backbone.trunk_options.record

    # ------------------------------------------------------------------------------------------

    @abstractmethod
    def _embed(self, images: Sequence[EmbedderImage], masks: list[Tensor]) -> Iterator[Found]:
        """One result per image, in order; ``masks`` are bool ``[M, H, W]``, checked."""

    @contextmanager
    def _exact(self) -> Iterator[None]:
        """Without gradients, and in the model's own dtype."""
        autocast = torch.autocast(self.backbone.device.type, enabled=False)
        with torch.inference_mode(False), torch.no_grad(), autocast:
            yield

    def _batches(self, images: Sequence[EmbedderImage]) -> Iterator[tuple[list[int], Tensor]]:
        """Neighbouring images of one input size, stacked; at most a few at a time."""
        positions: list[int] = []
        stack: list[Tensor] = []
        for position, image in enumerate(images):
            pixels = self._pixels(image)
            if stack and (pixels.shape != stack[0].shape or len(stack) == AT_ONCE):
                yield positions, torch.stack(stack)
                positions, stack = [], []
            positions.append(position)
            stack.append(pixels)
        if stack:
            yield positions, torch.stack(stack)

    def _pixels(self, image: EmbedderImage) -> Tensor:
        image = _as_given(image)
        if isinstance(image, Image.Image):
            return self.backbone.preprocess(image, self.size, self.resize)
        if not isinstance(image, Tensor) or image.ndim != 3:
            shape = list(image.shape) if isinstance(image, Tensor) else type(image).__name__
            raise InputError(f"image: expected a PIL image or pixels [3, H, W], found {shape}")
        return image.to(self.backbone.device)

    def _placed(self, image: EmbedderImage) -> Placement:
        """Where the image lies in its ``_pixels``."""
        image = _as_given(image)
        if isinstance(image, Tensor):
            return Placement.whole((image.shape[-2], image.shape[-1]))
        return place(image.size, self.size, self.backbone.patch_size, self.resize)

    def _check_finite(self, embeddings: Tensor) -> None:
        if not torch.isfinite(embeddings).all():
            self.backbone.check_finite()
            raise ModelError(
                f"{self.backbone.name}: an embedding is not finite though the weights are;"
                f" {self.backbone.dtype} overflows, use float32"
            )


class EncodingEmbedder(Embedder[Found], Generic[Found, Seen]):
    """An embedder that runs the image through the model once, whatever the regions.

    It keeps the encoding in views, so a second question about a view costs no such forward.
    """

    def encode(self, views: Sequence[ImageView]) -> None:
        """See ``Embedder.encode``."""
        with self._exact():
            for _ in self._encoded(views):
                pass

    @abstractmethod
    def _encode(self, pixels: Tensor) -> list[Seen]:
        """The encoding of each of ``pixels [B, 3, H, W]``: a tensor or a dataclass of tensors."""

    @abstractmethod
    def _find_each(self, asked: Sequence[tuple[Seen, EmbedderImage, Tensor]]) -> list[Found]:
        """The regions of a few images: the encoding of each, the image, its ``masks [M, H, W]``."""

    @property
    @abstractmethod
    def _key(self) -> tuple[Hashable, ...]:
        """All that decides the encoding, except backbone, size and place in the input."""

    def _embed(self, images: Sequence[EmbedderImage], masks: list[Tensor]) -> Iterator[Found]:
        asked = zip(self._encoded(images), images, masks, strict=True)
        while some := list(islice(asked, AT_ONCE)):
            yield from self._find_each(some)

    def _encoded(self, images: Sequence[EmbedderImage]) -> Iterator[Seen]:
        """The encoding of each image, in order: from its view, or computed now, a few at a time."""

        def key(view: ImageView) -> tuple[Hashable, ...]:
            return (self.backbone, self.backbone.trunk_options, self._placed(view), *self._key)

        def is_known(image: EmbedderImage) -> bool:
            return isinstance(image, ImageView) and key(image) in image

        for known, some in groupby(images, is_known):
            if known:
                yield from (view[key(view)] for view in some)  # type: ignore[index,arg-type]
                continue
            unknown = list(some)
            for positions, pixels in self._batches(unknown):
                for position, seen in zip(positions, self._encode(pixels), strict=True):
                    image = unknown[position]
                    yield image.keep(key(image), seen) if isinstance(image, ImageView) else seen


class OneByOneEmbedder(EncodingEmbedder[Found, Seen], Generic[Found, Seen]):
    """An encoding embedder that gains nothing by looking at the regions of several images."""

    @abstractmethod
    def _find(self, seen: Seen, image: EmbedderImage, masks: Tensor) -> Found:
        """The regions ``masks [M, H, W]`` of one image that was encoded."""

    def _find_each(self, asked: Sequence[tuple[Seen, EmbedderImage, Tensor]]) -> list[Found]:
        return [self._find(*one) for one in asked]


def _as_given(image: EmbedderImage) -> Image.Image | Tensor:
    return image.image if isinstance(image, ImageView) else image
