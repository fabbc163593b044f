"""An image with its regions and texts, as every dataset of `regionlm.datasets` returns it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image


@dataclass(frozen=True, eq=False)
class Sample:
    """An image, its candidate regions, and texts that each describe one of them.

    id: id of the image, unique in its dataset.
    image: RGB, 8 bits, W x H pixels.
    masks: bool [M, H, W] in the pixels of `image`, none empty; M may be 0.
    mask_ids: M ids of the masks, as the dataset names its annotations.
    texts: T texts, none blank. In a dataset of classes T = M: the name of each mask's class.
    text_ids: T ids of the texts.
    targets: T indices into `masks`: the mask that each text describes.
    labels: M indices into the dataset's `classes`; () if it has none.
    tags: further facts to select images by, such as PhraseCut's `coco_id`. `annotated_size`, (W, H)
    in pixels, is there if the masks were made at another size and had to be resized.
    dropped: ids of the empty masks, and of texts without words or a mask, that were left out.
    """

    id: str
    image: Image.Image
    masks: np.ndarray
    mask_ids: tuple[str, ...]
    texts: tuple[str, ...]
    text_ids: tuple[str, ...]
    targets: tuple[int, ...]
    labels: tuple[int, ...] = ()
    tags: Mapping[str, Any] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True)
class Expression:
    """A text of an image. target: id of the mask that it describes."""

    id: str
    text: str
    target: str


def referring_sample(
    id: str,
    image: Image.Image,
    masks: Mapping[str, np.ndarray],
    texts: Sequence[Expression],
    tags: Mapping[str, Any],
) -> Sample:
    """Make a sample of masks and the texts that refer to them.

    masks: bool [h, w] by id; they are resized if they have another size than the image.
    """
    fitted, tags = _fit(masks, image, tags)
    kept = {name: mask for name, mask in fitted.items() if mask.any()}
    order = {name: index for index, name in enumerate(kept)}
    usable = [bool(text.text.strip()) and text.target in order for text in texts]
    told = [text for text, good in zip(texts, usable, strict=True) if good]
    gone = [name for name in masks if name not in kept]
    gone += [text.id for text, good in zip(texts, usable, strict=True) if not good]
    return Sample(
        id=id,
        image=image,
        masks=_stack(kept, image),
        mask_ids=tuple(kept),
        texts=tuple(text.text for text in told),
        text_ids=tuple(text.id for text in told),
        targets=tuple(order[text.target] for text in told),
        tags=tags,
        dropped=tuple(dict.fromkeys(gone)),
    )


def labelled_sample(
    id: str,
    image: Image.Image,
    masks: Mapping[str, np.ndarray],
    labels: Sequence[int],
    classes: Sequence[str],
    tags: Mapping[str, Any] | None = None,
) -> Sample:
    """Make a sample of masks and their classes.

    masks: bool [h, w] by id; they are resized if they have another size than the image.
    labels: index into `classes` for each mask.
    """
    fitted, tags = _fit(masks, image, tags or {})
    label_of = dict(zip(masks, labels, strict=True))
    kept = {name: mask for name, mask in fitted.items() if mask.any()}
    found = tuple(label_of[name] for name in kept)
    return Sample(
        id=id,
        image=image,
        masks=_stack(kept, image),
        mask_ids=tuple(kept),
        texts=tuple(classes[label] for label in found),
        text_ids=tuple(kept),
        targets=tuple(range(len(kept))),
        labels=found,
        tags=tags,
        dropped=tuple(name for name in masks if name not in kept),
    )


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a mask, bool [h, w], to (W, H) by the nearest pixel; returns bool [H, W]."""
    picture = Image.fromarray(mask.astype(np.uint8))
    return np.asarray(picture.resize(size, Image.Resampling.NEAREST)) > 0


def _fit(
    masks: Mapping[str, np.ndarray], image: Image.Image, tags: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    others = {mask.shape[::-1] for mask in masks.values()} - {image.size}
    if not others:
        return dict(masks), dict(tags)
    fitted = {name: resize_mask(mask, image.size) for name, mask in masks.items()}
    return fitted, {"annotated_size": others.pop(), **tags}


def _stack(masks: Mapping[str, np.ndarray], image: Image.Image) -> np.ndarray:
    if not masks:
        return np.zeros((0, image.height, image.width), bool)
    return np.stack(list(masks.values()))
