"""The options of every embedder, one class each.

Nothing heavy may be imported here, so that options can be listed and checked before torch is
loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, ClassVar, Literal, get_args

from prefix_models.checks import (
    AnyPath,
    Checked,
    Described,
    PositiveCount,
    Range,
    check_choice,
)
from regionlm.errors import InputError
from regionlm.inputs.placement import Resize

Score = Literal["cosine", "dot", "published"]
RelevanceName = Literal["legrad", "gradcam", "gradcam_no_relu", "chefer"]
Speed = Literal["exact", "fast"]
ROLLOUT = "rollout"
"""A method whose map is the same for every vector: it can be shown, not inverted."""
_Inverted = Annotated[
    RelevanceName,
    Described(
        f"one of {', '.join(get_args(RelevanceName))}",
        hint=f"{ROLLOUT}, which can't be inverted, is for explain",
    ),
]
Extent = Literal["image", "box"]

Steps = Annotated[int, Range(0, 100_000)]  # a LET has settled long before
Weight = Annotated[float, Range(0, 1e6)]  # useful ones are below 100
PositiveNumber = Annotated[float, Range(above=0, most=1e6)]
Fraction = Annotated[float, Range(0, 1)]


@dataclass(frozen=True, kw_only=True)
class EmbedderOptions(Checked):
    """Options of every embedder; `cls`, `crop` and `sclip` have no others.

    Args:
        size: Model input in pixels, S or [H, W], multiples of the patch. null takes the model's
            default; for maskinversion that is 448, as in the paper, or the nearest multiple of the
            patch. Published AlphaCLIPs work only at their own size.
        resize: How the image, which is never cropped, or an embedder's picture of a region is
            brought to that size. `squash` distorts it; `pad` keeps its aspect ratio and fills the
            rest with the mean colour, which no map or mask reaches; `native` keeps it in an input
            of another shape, with about as many pixels. null takes the model's default, or else
            squash.

    Raises:
        InputError: an option has the wrong type or is out of range; this holds for all classes
            here.
    """

    error: ClassVar[type[InputError]] = InputError

    size: int | tuple[int, int] | None = None
    resize: Resize | None = None


@dataclass(frozen=True, kw_only=True)
class MaskInversionOptions(EmbedderOptions):
    """Options of `maskinversion`; null takes the model's default, or else the value in brackets.

    Args:
        steps: AdamW steps, 0 to 100 000 [10, as in the paper]; 0 gives the embedding of the whole
            image.
        lr: AdamW's learning rate, > 0 [0.1, as in the published class; its examples use 0.5, the
            paper gives none].
        alpha: Weight of staying near the embedding of the whole image, >= 0 [0; the paper uses 5 on
            RefCOCO and RefCOCO+].
        weight_decay: AdamW's weight decay, >= 0 [0].
        score: Similarity whose gradient gives the map, `cosine` or `dot` [what suits the model's
            pooling, see `regionlm.relevance.score`]. With `cosine` a model that pools the mean or
            with attention starts at the score's maximum, where the gradient is zero: the vector
            then stays the image embedding, and the map is all zeros. `published` is what the
            authors' code takes for SigLIP and CoCa, without one of the model's norms (see
            `regionlm.relevance.published`).
        empty_text: Threshold in [0, 1]: patches where the map of "a photo of a", min-max scaled, is
            above it are zero in every map [none; the authors' code takes 0.8 with SigLIP].
        relevance: Method whose map is matched: `legrad`, or, as in the paper's Table 8, `gradcam`,
            `gradcam_no_relu` or `chefer` [legrad].
        layers: Number of last layers over which LeGrad's maps are summed, >= 1; all if the model
            has fewer [1, as in MaskInversion; the default of LeGrad's own code is 2].
        speed: `exact`, or `fast`: all steps but the first match LeGrad's map of some of the image's
            rows, several times as fast for nearly the same vector; the map that is returned, its
            dice and its iou are exact [exact].
    """

    steps: Steps | None = None
    lr: PositiveNumber | None = None
    alpha: Weight | None = None
    weight_decay: Weight | None = None
    score: Score | None = None
    empty_text: Fraction | None = None
    relevance: _Inverted | None = None
    layers: PositiveCount | None = None
    speed: Speed | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        several = self.layers is not None and self.layers > 1
        others = self.relevance not in (None, "legrad", ROLLOUT)  # explain says what rollout has
        if several and others:
            raise InputError(
                f"layers: expected 1 with relevance {self.relevance}, found {self.layers}; only"
                " legrad sums the maps of several layers"
            )
        if self.speed == "fast" and others:
            raise InputError(
                f"speed: expected exact with relevance {self.relevance}, found fast; fast is for"
                " legrad, leave one of them out"
            )

    def or_else(self, defaults: Mapping[str, Any]) -> MaskInversionOptions:
        """The same options, where those that are None have the values of ``defaults``, if any."""
        missing = [one.name for one in fields(self) if getattr(self, one.name) is None]
        return replace(self, **{name: defaults[name] for name in missing if name in defaults})


def finding_options(given: Mapping[str, Any]) -> list[str]:
    """Names of those options of `maskinversion` that say how a region's vector is found; they have
    no effect on the map of a text. ``given``: options by name; None is none."""
    names = ("steps", "lr", "alpha", "weight_decay", "speed")
    return [name for name in names if given.get(name) is not None]


MASKINVERSION_DEFAULTS: Mapping[str, Any] = {
    "steps": 10,
    "lr": 0.1,
    "alpha": 0.0,
    "weight_decay": 0.0,
    "size": 448,
    "resize": "squash",
    "relevance": "legrad",
    "layers": 1,
    "speed": "exact",
}
"""For a backbone without defaults of its own; size is the nearest multiple of the patch."""


@dataclass(frozen=True, kw_only=True)
class MaskedCropOptions(EmbedderOptions):
    """Options of `masked_crop`.

    Args:
        extent: `image` keeps the full frame, which is what the MaskInversion paper means by masked
            crop; `box` cuts out the mask's bounding box, as most other code does.
    """

    extent: Extent = "image"


@dataclass(frozen=True, kw_only=True)
class RedCircleOptions(EmbedderOptions):
    """Options of `red_circle`.

    Args:
        thickness: Thickness of the line, as a share of the image's short side, at least one pixel.
            0.01 is the paper's value for circles around points; FGVP's version of the method draws
            2 pixels of 384.
    """

    thickness: PositiveNumber = 0.01


@dataclass(frozen=True, kw_only=True)
class FgvpOptions(EmbedderOptions):
    """Options of `fgvp`.

    Args:
        blur: Standard deviation of the blur, > 0, in pixels of an image whose short side is 384;
            100 as published.
    """

    blur: PositiveNumber = 100.0


@dataclass(frozen=True, kw_only=True)
class RisOptions(EmbedderOptions):
    """Options of `ris`.

    Args:
        v: Weight of the global feature, 0 to 1; 0.95 as published (0.85 on RefCOCOg). At 1, no
            crop is embedded.
        masked_blocks: How many of the last blocks are masked, >= 1; 3 as published for ViT-B; all
            if the model has fewer.
    """

    v: Fraction = 0.95
    masked_blocks: PositiveCount = 3


@dataclass(frozen=True, kw_only=True)
class MaskClipOptions(EmbedderOptions):
    """Options of `maskclip`.

    Args:
        value_only: Leave out the last block's residual stream and MLP too, as much later code does;
            the published ViT code keeps both.
    """

    value_only: bool = False


@dataclass(frozen=True, kw_only=True)
class ClipSurgeryOptions(EmbedderOptions):
    """Options of `clip_surgery`.

    Args:
        blocks: How many of the last blocks have the second path, >= 1; 6 as published for every
            model; all if the model has fewer.
    """

    blocks: PositiveCount = 6


@dataclass(frozen=True, kw_only=True)
class AlphaClipOptions(EmbedderOptions):
    """Options of `alphaclip`.

    Args:
        checkpoint: File of the image tower's weights, as published
            (`clip_b16_grit20m_fultune_2xe.pth`): a state dict with `attn.in_proj.weight` and
            `conv1_alpha.weight`. Required.
        quick_gelu: Compute with QuickGELU, or else GELU, whatever the backbone has. All published
            checkpoints were trained with QuickGELU; the wrong one gives no error, only bad vectors.
    """

    checkpoint: AnyPath | None = None
    quick_gelu: bool = True


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
    check_choice("embedder", name, EMBEDDER_OPTIONS, InputError)
    EMBEDDER_OPTIONS[name].read(options, f"the embedder {name}")
    if name == "alphaclip" and options.get("checkpoint") is None:
        raise InputError(
            "checkpoint: alphaclip needs the file of an Alpha-CLIP image tower, found none; give it"
        )
