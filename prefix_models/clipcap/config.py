"""Settings of a ClipCap model: sizes, input normalisation, and how a text ends."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from prefix_models.checks import Checked, PositiveCount
from prefix_models.decoding.options import Stop
from prefix_models.errors import PrefixModelError


@dataclass(frozen=True)
class ClipCapConfig(Checked):
    """Settings of a ClipCap model, saved with its weights.

    Args:
        embedding_dim: width d of the input embeddings.
        prefix_length: number P of vectors in front of the text.
        mapper: kind of mapper, a key of `prefix_models.clipcap.mappers.MAPPERS`.
        mapper_width: hidden width of the mapper; None means the published choice: P / 2 times the
            language model's width (mlp), or twice that width (transformer).
        clip_length: tokens that a transformer mapper makes from the embedding; None means P.
        mapper_layers, mapper_heads: of a transformer mapper; None means 8 each, as published.
        normalize_input: scale embeddings to unit L2 norm before the mapper. It must be as in the
            mapper's training: true for the published transformer checkpoint, false for the MLPs.
        encoder: name of the encoder that the embeddings come from (open_clip's "name/pretrained");
            empty if unknown. It is not loaded, but a RegionCaptioner refuses a backbone of another
            name.
        stop: what ends a text. "eos": the tokenizer's end token, which is not part of the text.
            "period": the token of ".", which is; the published checkpoints were trained without an
            end token.
        prompt: text between prefix and caption, in training and decoding. It is not part of the
            generated text.

    Raises:
        PrefixModelError: a value is out of range or has the wrong type.
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
        """Return the settings as JSON values, without those that are None."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ClipCapConfig":
        """Build from `to_dict`'s values; unknown or missing names raise PrefixModelError."""
        return cls.read(values, "a ClipCap")


def check_prefix_name(name: object) -> str:
    """Return the name of a prefix, which names a file; PrefixModelError if it is not valid."""
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise PrefixModelError(
            f"prefix: expected a name of letters, digits, '-' and '_', found {name!r}"
        )
    return name
