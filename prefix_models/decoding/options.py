"""What a caller can ask of decoding, and what comes back."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from prefix_models.errors import PrefixModelError

Decoding = Literal["greedy", "beam", "sample"]

# The published generate2 and generate_beam stop after as many tokens.
DEFAULT_MAX_NEW_TOKENS = 67


@dataclass(frozen=True)
class Generation:
    """One generated text.

    `token_ids` are the tokens chosen, the one that ended the text included; `token_logprobs` their
    natural-log probabilities under the model at temperature 1, whatever the decoding.
    """

    text: str
    token_ids: list[int] = field(default_factory=list)
    token_logprobs: list[float] = field(default_factory=list)

    @property
    def logprob(self) -> float:
        """Log-probability of the whole text: the sum over its tokens."""
        return math.fsum(self.token_logprobs)


@dataclass(frozen=True)
class DecodeOptions:
    """Checked decoding options; see `ClipCap.generate` for their meaning.

    Raises:
        PrefixModelError: an option is of another type or out of range.
    """

    decoding: Decoding = "greedy"
    max_new_tokens: int | None = None
    beam_size: int = 5
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | Sequence[int] | None = None

    def __post_init__(self) -> None:
        if self.decoding not in get_args(Decoding):
            raise PrefixModelError(
                f"decoding must be one of {list(get_args(Decoding))}, got {self.decoding!r}"
            )
        if self.max_new_tokens is not None:
            _check_count("max_new_tokens", self.max_new_tokens)
        _check_count("beam_size", self.beam_size)
        temperature = _number("temperature", self.temperature)
        if not 0 < temperature < math.inf:
            raise PrefixModelError(
                f"temperature must be a positive number, got {self.temperature!r}; "
                "for the most probable tokens use decoding='greedy'"
            )
        if not 0 < _number("top_p", self.top_p) <= 1:
            raise PrefixModelError(f"top_p must be above 0 and at most 1, got {self.top_p!r}")
        for seed in self.seed if isinstance(self.seed, Sequence) else [self.seed]:
            _check_seed(seed)


def _check_count(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise PrefixModelError(f"{name} must be an integer of at least 1, got {value!r}")


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise PrefixModelError(f"{name} must be a number, got {value!r}")
    return float(value)


def _check_seed(seed: object) -> None:
    if seed is None:
        return
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**63:
        raise PrefixModelError(f"seed must be an integer from 0 to 2^63 - 1, got {seed!r}")
