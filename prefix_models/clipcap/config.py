"""What a ClipCap model is besides its weights: sizes, input normalisation, how a text ends."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from prefix_models.checks import Checked, PositiveCount
from prefix_models.decoding.options import Stop
from prefix_models.errors import PrefixModelError


@dataclass(frozen=True)
class ClipCapConfig(Checked):
    """Settings of a ClipCap model, saved beside its weights.

    Args:
        embedding_dim: width d of the embeddings it reads.
        prefix_length: number P of vectors put before the text.
        mapper: kind of mapper, a key of `prefix_models.clipcap.mappers.MAPPERS`.
        mapper_width: hidden width of the mapper; None means the published choice: half of P x the
            language model's width (mlp), twice that width (transformer).
        clip_length: vectors that a transformer mapper makes of the embedding; None means P.
        mapper_layers, mapper_heads: of a transformer mapper; None means the published 8.
        normalize_input: scale embeddings to unit L2 norm before the mapper. Set it where the mapper
            was trained so; the published transformer checkpoint was, the MLP ones were not.
        encoder: name of the encoder whose embeddings it was trained on (open_clip's
            "name/pretrained"); empty when unknown. Nothing loads it, but a RegionCaptioner refuses
            a backbone of another name.
        stop: "eos", the tokenizer's end token ends a text and is not part of it; "period", the
            token of "." ends a text and is kept in it, as in the published checkpoints, which were
            trained without an end token.
        prompt: text put between prefix and caption, in training and decoding; not part of the
            generated text.

    Raises:
        PrefixModelError: a value is out of range or of another type.
    """

    error: ClassVar[type[PrefixModelError]] = PrefixModelError

    embedding_dim: PositiveCount
    prefix_length: PositiveCount = 10
    mapper: str = "mlp"
    mapper_width: PositiveCount | None = None
    clip_length: PositiveCount | None = None
    mapper_layers: PositiveCount | None = None
    mapper_heads: PositiveCount | None = None
    normalize_input: bool = False
    encoder: str = ""
    stop: Stop = "eos"
    prompt: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON values, without those left to the published choice."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ClipCapConfig":
        """Build from `to_dict`'s values; unknown or missing names raise PrefixModelError."""
        return cls.read(values, "a ClipCap")


def check_prefix_name(name: object) -> str:
    """Return a name fit for a file; anything else than letters, digits, "-", "_" raises."""
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise PrefixModelError(f"a prefix name is letters, digits, '-' and '_', got {name!r}")
    return name
