"""Text from a prefix: greedy, sampled and beam decoding, batched over regions and KV-cached."""

from prefix_models.decoding.beam import Hypothesis, beam_search
from prefix_models.decoding.options import DecodeOptions, Generation
from prefix_models.decoding.processors import controls, known_ids
from prefix_models.decoding.request import Task
from prefix_models.decoding.sampling import Token, decode_rows
from prefix_models.decoding.streaming import text_pieces

__all__ = [
    "DecodeOptions",
    "Generation",
    "Hypothesis",
    "Task",
    "Token",
    "beam_search",
    "controls",
    "decode_rows",
    "known_ids",
    "text_pieces",
]
