"""MaskInversion (Bousselham et al. 2024): the token whose relevance map matches a region's mask."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import AdamW

from regionlm.backbones.sizes import nearest_size
from regionlm.backbones.vision import EncodedImages, VisionBackbone
from regionlm.embedders.dice import GridDice
from regionlm.embedders.embedder import EmbedderImage, EncodingEmbedder
from regionlm.embedders.inputs import check_masks
from regionlm.embedders.localized import Localized, map_iou
from regionlm.embedders.options import (
    MASKINVERSION_DEFAULTS,
    MaskInversionOptions,
    RelevanceName,
    Score,
    Speed,
)
from regionlm.embedders.side_by_side import ImageMasks, side_by_side
from regionlm.errors import InputError
from regionlm.inputs.placement import Placement
from regionlm.relevance.methods import Relevance, check_relevance, make_relevance
from regionlm.relevance.products import part_of, stacked
from regionlm.relevance.resize import GridToMask
from regionlm.relevance.together import ATTENTION_MAPS, work_together


class _Problem(NamedTuple):
    """Masks of an image, and what their inversion needs of it."""

    exact: Relevance
    rough: Relevance
    start: Tensor
    resize: GridToMask
    masks: Tensor


class MaskInversion(EncodingEmbedder[Localized, EncodedImages]):
    """Localized embedding tokens (LETs) for regions of an image, on a frozen backbone.

    Each mask is its own problem, and its results don't depend on the others', to the last bit:
    start at the image embedding, and let AdamW turn it for ``steps``
    steps until its relevance map (LeGrad's by default) matches the mask under
    ``Dice + alpha * (1 - cosine to the image embedding)``. The gradient is explicit: no autograd
    runs and no parameter, flag or ``.grad`` is touched, so it works in any grad mode and inside
    Lightning. A map without contrast (max == min) counts as all zeros, with zero gradient.

    With ``speed="fast"`` all steps but the first take LeGrad's mean over ``fast_rows`` of the
    queries, a lattice over the patches. The first step is exact: AdamW makes it of the gradient's
    signs alone, which a rough gradient has wrong where it is small, and no later step undoes that.
    What the rows miss of that step's map is added to those that follow. The final map is exact,
    too. Where an image has few patches, fast is exact; a model that pools with attention has a
    single query and refuses it.

    Args:
        backbone: which model to explain.
        **options: the fields of ``MaskInversionOptions``: ``steps``, ``lr``, ``alpha``,
            ``weight_decay``, ``size``, ``resize``, ``score``, ``empty_text``, ``relevance``,
            ``layers`` and ``speed``. What is None or left out takes the backbone's
            ``inversion_defaults``, else ``MASKINVERSION_DEFAULTS``.

    Raises:
        InputError: an option out of range.
    """

    options_type = MaskInversionOptions
    options: MaskInversionOptions
    fast_rows = 64
    """About how many queries ``speed="fast"`` reads; chosen in docs/parity-and-speed.md."""
    eps = 1e-8
    """AdamW's. The published loss is the mean over an image's M masks; but for its eps, AdamW is
    blind to the factor 1/M. So what that code finds for M masks at once is what is found here with
    M times its eps, and what it finds for one mask is what is found here."""

    def __init__(self, backbone: VisionBackbone, **options: Any) -> None:
        size = nearest_size(MASKINVERSION_DEFAULTS["size"], backbone.patch_size)
        chosen = MaskInversionOptions(**options).or_else(backbone.inversion_defaults)
        used = asdict(chosen.or_else({**MASKINVERSION_DEFAULTS, "size": size}))
        super().__init__(backbone, **used)
        self.steps: int = used["steps"]
        self.lr: float = used["lr"]
        self.alpha: float = used["alpha"]
        self.weight_decay: float = used["weight_decay"]
        self.score: Score | None = used["score"]
        self.empty_text: float | None = used["empty_text"]
        self.relevance: RelevanceName = used["relevance"]
        self.layers: int = used["layers"]
        self.speed: Speed = used["speed"]
        check_relevance(self.relevance, backbone, self.score)
        if self.speed == "fast" and backbone.pooling == "attention":
            raise InputError(
                f"speed: expected exact with {backbone.name}, found fast; it pools with attention,"
                " which has a single query, so leave speed out"
            )

    @property
    def record(self) -> dict[str, str]:
        """See ``Embedder.record``."""
        own = {} if self.speed == "exact" else {"speed": self.speed}
        return {**super().record, **own}

    def invert(
        self, encoded: EncodedImages, masks_per_image: Sequence[np.ndarray | Tensor]
    ) -> list[Localized]:
        """`localize_batch` for images that the backbone has encoded already, each with its masks.

        Masks bool ``[M, H, W]`` of any size: they are laid over the patch grid. Raises as there.
        """
        if len(encoded) != len(masks_per_image):
            raise InputError(
                f"expected one set of masks per image, found {len(encoded)} images and"
                f" {len(masks_per_image)} sets of masks"
            )
        layers = 1 + len(encoded.earlier)
        if layers != self.layers and not layers == len(self.backbone.blocks()) < self.layers:
            raise InputError(
                f"layers: expected images encoded for {self.layers} layers, found {layers}; encode"
                " them so, or leave layers out"
            )
        with self._exact():
            self._check_finite(encoded.embeddings)
            masks = [check_masks(some) for some in masks_per_image]
            return self._invert_each(map(ImageMasks, encoded.split(), masks))

    def explain(
        self, image: EmbedderImage, tokens: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, GridToMask]:
        """Maps of an image for tokens of the joint space, such as embeddings of texts.

        Args:
            image: as ``__call__`` takes it.
            tokens: ``[m, d]``, of any length.
            size: (H, W) that the maps will be looked at in.

        Returns:
            Raw maps ``[m, gh, gw]``, by this embedder's relevance method, and what brings them to
            ``size``. Raises as ``__call__``.
        """
        with self._exact():
            (encoded,) = self._encoded([image])
            method, start = self._method(encoded, len(tokens))
            maps = _maps(method, tokens.to(start))
            return maps, _resize(encoded, size, start, self._placed(image))

    # ------------------------------------------------------------------------------------------

    def _encode(self, pixels: Tensor) -> list[EncodedImages]:
        encoded = self.backbone.encode(pixels, layers=self.layers)
        self._check_finite(encoded.embeddings)
        return encoded.split()

    def _find_each(
        self, asked: Sequence[tuple[EncodedImages, EmbedderImage, Tensor]]
    ) -> list[Localized]:
        return self._invert_each(
            ImageMasks(seen, masks, self._placed(image)) for seen, image, masks in asked
        )

    @property
    def _key(self) -> tuple[Hashable, ...]:
        return (EncodedImages, self.layers)

    def _invert_each(self, asked: Iterable[ImageMasks]) -> list[Localized]:
        found: list[Localized] = []
        can_share = self.relevance in ATTENTION_MAPS and self.empty_text is None
        for group in side_by_side(asked) if can_share else ([one] for one in asked):
            together = self._invert_together(group) if len(group) > 1 else []
            found += together or [self._invert(one) for one in group]
        return found

    def _invert_together(self, group: list[ImageMasks]) -> list[Localized]:
        """Inversions of the masks of several images at once; none where memory is too small."""
        counts = [len(one.masks) for one in group]
        try:
            parts = [self._problem(*one) for one in zip(group, counts, strict=True)]
            exact = work_together([part.exact for part in parts], counts)
            rough = exact
            if self.speed == "fast":
                rough = work_together([part.rough for part in parts], counts)
            return self._solve(exact, rough, parts)
        except (RuntimeError, MemoryError):  # on a CPU, torch has no other name for it
            return []

    def _invert(self, asked: ImageMasks) -> Localized:
        at_once = len(asked.masks)
        while True:
            try:
                part = self._problem(asked, at_once)
                at_once = max(part.exact.chunk, part.rough.chunk)
                (found,) = self._solve(part.exact, part.rough, [part])
                return found
            except (RuntimeError, MemoryError):
                if at_once == 1:
                    raise
            at_once //= 2

    def _problem(self, asked: ImageMasks, at_once: int) -> _Problem:
        exact, start = self._method(asked.encoded, at_once)
        rough = exact
        if self.speed == "fast":
            rough, _ = self._method(asked.encoded, at_once, rows=self.fast_rows)
        size = (asked.masks.shape[1], asked.masks.shape[2])
        resize = _resize(asked.encoded, size, start, asked.placed)
        return _Problem(exact, rough, start, resize, asked.masks)

    def _solve(
        self, exact: Relevance, rough: Relevance, parts: Sequence[_Problem]
    ) -> list[Localized]:
        """The inversions of one image's masks, or of several images' at once."""
        counts = [len(part.masks) for part in parts]
        dice = GridDice.together([GridDice(part.resize, part.masks) for part in parts])
        starts = parts[0].start[None]  # of all masks, or of each
        if len(parts) > 1:
            starts = stacked([part.start[None] for part in parts], counts)
        lets, losses = self._descend(exact, rough, dice, starts, sum(counts))
        maps = _maps(exact, lets)
        if not (torch.isfinite(maps).all() and torch.isfinite(lets).all()):
            decay = f" and weight_decay {self.weight_decay}" if self.weight_decay else ""
            raise InputError(
                f"lr: the optimisation diverged with lr {self.lr}{decay}; use smaller ones"
            )
        final, _ = dice(maps)
        of_each = zip(
            parts, *(one.split(counts) for one in (lets, maps, losses.T, 1 - final)), strict=True
        )
        return [
            Localized(
                embeddings=let,
                image_embedding=part.start,
                relevance=relevance,
                loss=loss.T,
                dice=score,
                iou=map_iou(relevance, part.resize, part.masks),
                resize=part.resize,
                speed=self.speed,
            )
            for part, let, relevance, loss, score in of_each
        ]

    def _method(
        self, encoded: EncodedImages, count: int, rows: int | None = None
    ) -> tuple[Relevance, Tensor]:
        """Maps of one encoded image for up to so many tokens; its embedding ``[d]``."""
        method = make_relevance(
            self.relevance,
            self.backbone,
            encoded,
            score=self.score,
            empty_text=self.empty_text,
            masks=count,
            rows=rows,
        )
        (start,) = encoded.embeddings
        return method, start.to(torch.promote_types(start.dtype, torch.float32))

    def _descend(
        self,
        method: Relevance,
        rough: Relevance,
        dice: GridDice,
        starts: Tensor,
        count: int,
    ) -> tuple[Tensor, Tensor]:
        """LETs ``[M, d]`` of M masks after all steps, and losses ``[steps, M]``, from ``starts [1
        or M, d]``. The first step follows ``method``'s maps, all others ``rough``'s, plus what
        those miss at the start."""
        lets, losses = starts.expand(count, -1).clone(), starts.new_zeros(self.steps, count)
        chunks = []
        for first in range(0, count, rough.chunk):
            span = slice(first, min(first + rough.chunk, count))
            let = lets[span]  # a view: its optimizer moves these rows alone
            adamw = AdamW(
                [let], self.lr, eps=self.eps, weight_decay=self.weight_decay, foreach=False
            )
            chunks.append((span, let, adamw))

        def step(
            number: int, maps: Tensor, by: Relevance, span: slice, let: Tensor, adamw: AdamW
        ) -> None:
            loss, dmaps = dice(maps, span)
            losses[number, span], let.grad = self._objective(
                let, part_of(starts, span), loss, by.backward(dmaps)
            )
            adamw.step()

        missed: Tensor | float = 0
        if self.steps:  # masks that start at one token have one map, but many losses
            tokens = F.normalize(starts, dim=1)
            maps = method.forward(tokens)
            if rough is not method:
                missed = maps - rough.forward(tokens)
            for chunk in chunks:
                step(0, maps, method, *chunk)
        for span, let, adamw in chunks:
            for number in range(1, self.steps):
                maps = rough.forward(F.normalize(let, dim=1)) + missed
                step(number, maps, rough, span, let, adamw)
        return lets, losses

    def _objective(
        self, lets: Tensor, starts: Tensor, dice: Tensor, at_unit: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Losses ``[m]`` and gradients ``[m, d]`` at LETs, given the Dice losses and their gradient
        at the normalised LETs."""
        length = lets.norm(dim=1, keepdim=True).clamp_min(1e-12)
        unit, loss = lets / length, dice
        if self.alpha:
            targets = F.normalize(starts, dim=1)
            loss = dice + self.alpha * (1 - (unit * targets).sum(1))
            at_unit = at_unit - self.alpha * targets
        return loss, (at_unit - (at_unit * unit).sum(1, keepdim=True) * unit) / length


def _resize(
    encoded: EncodedImages, size: tuple[int, int], like: Tensor, placed: Placement | None
) -> GridToMask:
    """From the patches of an image to ``size`` (H, W); None: it fills the input."""
    return GridToMask.of(encoded.grid, encoded.patch_size, size, like, placed)


def _maps(method: Relevance, tokens: Tensor) -> Tensor:
    """Raw maps ``[m, gh, gw]`` of any number of tokens ``[m, d]`` of any length."""
    parts = tokens.split(method.chunk)
    return torch.cat([method.forward(F.normalize(part, dim=1)) for part in parts])
