"""What a decoder needs besides the language model."""

from dataclasses import dataclass

from torch import Tensor
from transformers import LogitsProcessorList

from prefix_models.decoding.options import DecodeOptions


@dataclass(frozen=True)
class DecodeRequest:
    """A batch of N texts to generate.

    `context` [N, C, hidden] precedes each text (prefix and prompt). `mask` [N, C] marks padding
    where contexts differ in length, or weighs their positions, see CachedLM. A text ends with its
    first token of `end_ids` [E], or after `max_new_tokens`. `processors` restrict the tokens; None
    allows all.
    """

    context: Tensor
    end_ids: Tensor
    max_new_tokens: int
    options: DecodeOptions
    processors: LogitsProcessorList | None = None
    mask: Tensor | None = None
