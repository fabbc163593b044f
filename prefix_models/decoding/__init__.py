"""Text from a prefix: greedy, sampled and beam decoding, batched over regions and KV-cached."""

from prefix_models.decoding.beam import Hypothesis, beam_search
from prefix_models.decoding.options import DecodeOptions, Generation
from prefix_models.decoding.processors import known_ids, logits_processors
from prefix_models.decoding.request import DecodeRequest
from prefix_models.decoding.sampling import Token, decode_rows
from prefix_models.decoding.streaming import text_pieces

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
