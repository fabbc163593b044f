"""What a caller can ask of decoding, and what comes back."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeGuard, get_args

from prefix_models.errors import PrefixModelError

Decoding = Literal["greedy", "beam", "sample"]
Stop = Literal["eos", "period"]
"""What ends a text: the tokenizer's end token, or the token of "."."""

# The published generate2 and generate_beam stop after as many tokens.
DEFAULT_MAX_NEW_TOKENS = 67


@dataclass(frozen=True)
class Generation:
    """One generated text.

    `token_ids` are the tokens chosen, the one that ended the text included; `token_logprobs` their
    natural-log probabilities under the model at temperature 1 and without logits processors,
    whatever the decoding.
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
    """How a text is written; checked.

    `min_new_tokens`, `top_k` and everything from `repetition_penalty` to `bad_words_ids` have the
    names and meanings of transformers' `generate`, whose logits processors do the work. Those see
    the tokens written so far, not the prefix and prompt, and apply to all three ways of decoding.
    In a beam they change log-probabilities, as in transformers, and hypotheses that they rule out
    are dropped. Without them, greedy and beam search give the tokens of the published ClipCap code
    (generate2, generate_beam).

    Args:
        decoding: "greedy" takes the most probable token at each step, "beam" the most probable text
            that a beam search finds, "sample" draws tokens at random.
        max_new_tokens: Longest text, in tokens; null takes 67, as published, or what fits.
        min_new_tokens: Shortest text, in tokens, before the one that ends it.
        beam_size: For beam: how many hypotheses it keeps.
        temperature: For sample and beam: divides the scores; below 1 is safer, above 1 more varied.
        top_k: For sample: draw from this many of the most probable tokens; 0 means all.
        top_p: For sample: draw from the most probable tokens that together hold this share of the
            probability, above 0 and at most 1.
        seed: For sample: makes it reproducible. One integer starts every row's own generator alike,
            so equal rows get equal texts; a list gives each row its own.
        repetition_penalty: Above 1, tokens already written become less probable; below 1, more.
        no_repeat_ngram_size: No sequence of this many tokens is written twice; 0 means no limit.
        bad_words: Texts that must not be written. Each is forbidden as the tokenizer writes it at
            the start of a text and after a space; upper and lower case are told apart, and a word
            that can be spelt in other tokens is not found there.
        bad_words_ids: Sequences of token ids that must not be written.
        eos_token_id: Token or tokens that end a text, instead of the model's own. Special tokens
            of the tokenizer are left out of the text, others are part of it.
        caption_start: Words that every text continues, such as "a photo of". They follow the
            model's own prompt and are not part of the text.

    Raises:
        PrefixModelError: an option is of another type or out of range.
    """

    decoding: Decoding = "greedy"
    max_new_tokens: int | None = None
    min_new_tokens: int = 0
    beam_size: int = 5
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int | Sequence[int] | None = None
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    bad_words: Sequence[str] = ()
    bad_words_ids: Sequence[Sequence[int]] = ()
    eos_token_id: int | Sequence[int] | None = None
    caption_start: str = ""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "DecodeOptions":
        """Build from keyword arguments, where numpy's scalars and arrays count as Python's.

        Unknown names raise PrefixModelError.
        """
        known = [field.name for field in fields(cls)]
        unknown = [name for name in values if name not in known]
        if unknown:
            raise PrefixModelError(
                f"unknown decoding option {unknown[0]!r}; known ones are {', '.join(known)}"
            )
        return cls(**{name: _without_numpy(value) for name, value in values.items()})

    @property
    def end_ids(self) -> list[int]:
        """The tokens of `eos_token_id`; none where it is None."""
        given = self.eos_token_id
        return [] if given is None else [given] if isinstance(given, int) else list(given)

    def __post_init__(self) -> None:
        if self.decoding not in get_args(Decoding):
            raise PrefixModelError(
                f"decoding must be one of {list(get_args(Decoding))}, got {self.decoding!r}"
            )
        if self.max_new_tokens is not None:
            _check_count("max_new_tokens", self.max_new_tokens, least=1)
        _check_count("beam_size", self.beam_size, least=1)
        for name in ("min_new_tokens", "top_k", "no_repeat_ngram_size"):
            _check_count(name, getattr(self, name), least=0)
        hint = "for the most probable tokens use decoding='greedy'"
        _check_factor("temperature", self.temperature, hint)
        _check_factor("repetition_penalty", self.repetition_penalty, "1 is no penalty")
        if not 0 < _number("top_p", self.top_p) <= 1:
            raise PrefixModelError(f"top_p must be above 0 and at most 1, got {self.top_p!r}")
        for seed in self.seed if isinstance(self.seed, Sequence) else [self.seed]:
            _check_seed(seed)
        _check_texts("bad_words", self.bad_words)
        if not _is_list(self.bad_words_ids) or not all(map(_are_ids, self.bad_words_ids)):
            raise PrefixModelError(
                "bad_words_ids must be a list of lists of token ids, got "
                f"{self.bad_words_ids!r}; texts go to bad_words"
            )
        if self.eos_token_id is not None and not (
            _is_id(self.eos_token_id) or _are_ids(self.eos_token_id)
        ):
            raise PrefixModelError(
                f"eos_token_id must be a token id or a list of some, got {self.eos_token_id!r}"
            )
        if not isinstance(self.caption_start, str):
            raise PrefixModelError(f"caption_start must be a text, got {self.caption_start!r}")


def _without_numpy(value: Any) -> Any:
    """Return numpy's scalars as Python's and its arrays as lists, inside lists and tuples too."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, list | tuple):
        plain = [_without_numpy(one) for one in value]
        return tuple(plain) if isinstance(value, tuple) else plain
    return value


def _check_count(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise PrefixModelError(f"{name} must be an integer of at least {least}, got {value!r}")


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise PrefixModelError(f"{name} must be a number, got {value!r}")
    return float(value)


def _check_factor(name: str, value: object, hint: str) -> None:
    # Scores times or over anything more extreme would overflow, and probabilities be NaN.
    if not 1e-6 <= _number(name, value) <= 1e6:
        raise PrefixModelError(f"{name} must be from 1e-6 to 1e6, got {value!r}; {hint}")


def _check_seed(seed: object) -> None:
    if seed is None:
        return
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**63:
        raise PrefixModelError(f"seed must be an integer from 0 to 2^63 - 1, got {seed!r}")


def _check_texts(name: str, value: object) -> None:
    if not _is_list(value):
        raise PrefixModelError(f"{name} must be a list of texts, got {value!r}")
    for text in value:
        if not isinstance(text, str) or not text.strip():
            raise PrefixModelError(f"{name} must hold texts that are not blank, got {text!r}")


def _is_list(value: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _are_ids(value: object) -> bool:
    return _is_list(value) and len(value) > 0 and all(map(_is_id, value))
