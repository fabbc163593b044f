"""What a decoder is given besides the language model."""

from dataclasses import dataclass

from torch import Tensor
from transformers import LogitsProcessorList

from prefix_models.decoding.options import DecodeOptions


@dataclass(frozen=True)
class DecodeRequest:
    """A batch of N texts to write.

    `context` [N, C, hidden] stands before each text (prefix, prompt); `mask` [N, C] says where
    contexts have unequal lengths, or how much each position counts, see CachedLM. A text ends with
    its first token of `end_ids` [E], or after `max_new_tokens`. `processors` say which tokens are
    allowed; None where all are.
    """

    context: Tensor
    end_ids: Tensor
    max_new_tokens: int
    options: DecodeOptions
    processors: LogitsProcessorList | None = None
    mask: Tensor | None = None
