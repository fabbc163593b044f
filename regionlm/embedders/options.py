"""What every embedder can be told: one class each, read by the registry, the keys of stored
embeddings and the paper's table.

Nothing but the standard library may be imported here, so that options can be listed and checked
before torch is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from regionlm.errors import InputError
from regionlm.inputs.numbers import (
    check_choice,
    check_count,
    check_flag,
    check_number,
    check_path,
    check_share,
)

Score = Literal["cosine", "dot"]
RelevanceName = Literal["legrad", "gradcam", "gradcam_no_relu", "chefer"]
Extent = Literal["image", "box"]

MOST_STEPS = 100_000  # a LET has settled long before


@dataclass(frozen=True, kw_only=True)
class EmbedderOptions:
    """What every embedder has; `cls`, `crop` and `sclip` have nothing else.

    Args:
        size: Model input, S or (H, W) pixels, multiples of the patch; images are squashed to it,
            not cropped. None takes the backbone's.

    Raises:
        InputError: an option of another type or out of range; so for all classes here.
    """

    size: int | tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class MaskInversionOptions(EmbedderOptions):
    """Options of `maskinversion`; None takes the backbone's default, else the value in brackets.

    Args:
        steps: AdamW steps, 0 to 100 000 [10, paper]. 0 returns the image embedding.
        lr: AdamW's step per coordinate, > 0 [0.1, the published class's; its examples use 0.5, the
            paper gives none].
        alpha: Weight of staying near the image embedding, >= 0 [0; the paper uses 5 on RefCOCO/+].
        weight_decay: AdamW's, >= 0 [0].
        size: See `EmbedderOptions` [448, paper, or the nearest multiple of the patch].
        score: ``"cosine"`` or ``"dot"`` [by the model's pooling, see ``relevance.score``]. A
            mean-pooled model under ``"cosine"`` starts at the score's maximum, where the gradient
            is zero: the LET then stays the image embedding and the map is all zeros.
        relevance: Whose map is matched, ``"legrad"``, or for comparison (the paper's Table 8)
            ``"gradcam"``, ``"gradcam_no_relu"`` or ``"chefer"`` (``relevance.gradcam``,
            ``relevance.chefer``) ["legrad"].
    """

    steps: int | None = None
    lr: float | None = None
    alpha: float | None = None
    weight_decay: float | None = None
    score: Score | None = None
    relevance: RelevanceName | None = None

    def __post_init__(self) -> None:
        _check(self, "steps", check_count, most=MOST_STEPS)
        _check(self, "lr", check_number, positive=True)
        _check(self, "alpha", check_number, positive=False)
        _check(self, "weight_decay", check_number, positive=False)
        _check(self, "score", check_choice, choices=get_args(Score))
        _check(self, "relevance", check_choice, choices=get_args(RelevanceName))

    def or_else(self, defaults: Mapping[str, Any]) -> MaskInversionOptions:
        """The same, with what is None taken from ``defaults``, where it is there."""
        missing = [one.name for one in fields(self) if getattr(self, one.name) is None]
        return replace(self, **{name: defaults[name] for name in missing if name in defaults})


MASKINVERSION_DEFAULTS: Mapping[str, Any] = {
    "steps": 10,
    "lr": 0.1,
    "alpha": 0.0,
    "weight_decay": 0.0,
    "size": 448,
    "relevance": "legrad",
}
"""On a backbone that brings none of its own; size is the nearest multiple of the patch."""


@dataclass(frozen=True, kw_only=True)
class MaskedCropOptions(EmbedderOptions):
    """Options of `masked_crop`.

    Args:
        extent: ``"image"`` keeps the full frame, which is what the MaskInversion paper's "masked
            crop" means; ``"box"`` cuts the mask's bounding box out of it, as most other codes do.
        size: See `EmbedderOptions`.
    """

    extent: Extent = "image"

    def __post_init__(self) -> None:
        _check(self, "extent", check_choice, choices=get_args(Extent))


@dataclass(frozen=True, kw_only=True)
class RedCircleOptions(EmbedderOptions):
    """Options of `red_circle`.

    Args:
        thickness: Of the line, as a fraction of the picture's short side, at least one pixel. 0.01
            is the paper's for its circles around points; FGVP's version of the method draws 0.0052:
            2 pixels of 384.
        size: See `EmbedderOptions`.
    """

    thickness: float = 0.01

    def __post_init__(self) -> None:
        _check(self, "thickness", check_number, positive=True)


@dataclass(frozen=True, kw_only=True)
class FgvpOptions(EmbedderOptions):
    """Options of `fgvp`.

    Args:
        blur: Standard deviation of the blur, > 0, in pixels of a picture whose short side is 384;
            100 as published.
        size: See `EmbedderOptions`.
    """

    blur: float = 100.0

    def __post_init__(self) -> None:
        _check(self, "blur", check_number, positive=True)


@dataclass(frozen=True, kw_only=True)
class RisOptions(EmbedderOptions):
    """Options of `ris`.

    Args:
        v: Weight of the global feature, 0 to 1; 0.95 as published, 0.85 there on RefCOCOg. At 1 no
            crop is embedded and preprocessed pixels are welcome.
        masked_blocks: How many of the last blocks are masked, >= 1; 3 as published on ViT-B; fewer
            if the model has fewer.
        size: See `EmbedderOptions`.
    """

    v: float = 0.95
    masked_blocks: int = 3

    def __post_init__(self) -> None:
        _check(self, "v", check_share)
        _check(self, "masked_blocks", check_count, least=1)


@dataclass(frozen=True, kw_only=True)
class MaskClipOptions(EmbedderOptions):
    """Options of `maskclip`.

    Args:
        value_only: Leave out the last block's residual stream and MLP too, as many later codes do;
            the published ViT code keeps both.
        size: See `EmbedderOptions`.
    """

    value_only: bool = False

    def __post_init__(self) -> None:
        _check(self, "value_only", check_flag)


@dataclass(frozen=True, kw_only=True)
class ClipSurgeryOptions(EmbedderOptions):
    """Options of `clip_surgery`.

    Args:
        blocks: How many of the last blocks have the second path, >= 1; 6 as published for every
            model; fewer if the model has fewer.
        size: See `EmbedderOptions`.
    """

    blocks: int = 6

    def __post_init__(self) -> None:
        _check(self, "blocks", check_count, least=1)


@dataclass(frozen=True, kw_only=True)
class AlphaClipOptions(EmbedderOptions):
    """Options of `alphaclip`.

    Args:
        checkpoint: A published file (``clip_b16_grit20m_fultune_2xe.pth``), which must be given:
            the state dict of the image tower, with ``attn.in_proj.weight`` and
            ``conv1_alpha.weight``.
        quick_gelu: The activation to compute with, whatever the backbone has. All published
            checkpoints were trained with QuickGELU; the wrong one gives no error, only bad vectors.
        size: See `EmbedderOptions`. The published models are used at their own size only.
    """

    checkpoint: str | Path | None = None
    quick_gelu: bool = True

    def __post_init__(self) -> None:
        _check(self, "checkpoint", check_path)
        _check(self, "quick_gelu", check_flag)


EMBEDDER_OPTIONS: dict[str, type[EmbedderOptions]] = {
    "maskinversion": MaskInversionOptions,
    "cls": EmbedderOptions,
    "crop": EmbedderOptions,
    "masked_crop": MaskedCropOptions,
    "red_circle": RedCircleOptions,
    "fgvp": FgvpOptions,
    "ris": RisOptions,
    "maskclip": MaskClipOptions,
    "clip_surgery": ClipSurgeryOptions,
    "sclip": EmbedderOptions,
    "alphaclip": AlphaClipOptions,
}
"""The options of each embedder of ``regionlm.embedders.EMBEDDERS``."""


def check_embedder(name: str, options: Mapping[str, Any]) -> None:
    """Raise InputError, as `make_embedder` does, for an unknown name or option, or a bad value."""
    if name not in EMBEDDER_OPTIONS:
        raise InputError(f"embedder: expected one of {', '.join(EMBEDDER_OPTIONS)}; got {name!r}")
    kind = EMBEDDER_OPTIONS[name]
    known = [field.name for field in fields(kind)]
    unknown = [option for option in options if option not in known]
    if unknown:
        raise InputError(
            f"{unknown[0]}: not an option of the embedder {name}, which has {', '.join(known)}"
        )
    kind(**options)


def _check(options: EmbedderOptions, name: str, check: Callable[..., Any], **bounds: Any) -> None:
    """Put what a check makes of a field in its place; None may stand where it is the default."""
    value = getattr(options, name)
    if value is None and getattr(type(options), name) is None:
        return
    object.__setattr__(options, name, check(name, value, **bounds))
