"""Text from a prefix: greedy decoding, sampling and beam search, batched and with a cache.

Names are imported on first use, so that the options can be read before torch is loaded.
"""

from typing import TYPE_CHECKING

from prefix_models.lazy import on_first_use

if TYPE_CHECKING:
    from prefix_models.decoding.beam import Hypothesis, beam_search
    from prefix_models.decoding.options import DecodeOptions, Generation
    from prefix_models.decoding.processors import known_ids, logits_processors
    from prefix_models.decoding.request import DecodeRequest
    from prefix_models.decoding.sampling import Token, decode_rows
    from prefix_models.decoding.streaming import text_pieces

_HOMES = {
    "DecodeOptions": "options",
    "DecodeRequest": "request",
    "Generation": "options",
    "Hypothesis": "beam",
    "Token": "sampling",
    "beam_search": "beam",
    "decode_rows": "sampling",
    "known_ids": "processors",
    "logits_processors": "processors",
    "text_pieces": "streaming",
}

__all__ = [
    "DecodeOptions",
    "DecodeRequest",
    "Generation",
    "Hypothesis",
    "Token",
    "beam_search",
    "decode_rows",
    "known_ids",
    "logits_processors",
    "text_pieces",
]

__getattr__ = on_first_use(__name__, _HOMES)
