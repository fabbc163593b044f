"""Options of decoding, and its result."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from prefix_models.checks import Checked, Count, Described, PositiveCount, Range
from prefix_models.errors import PrefixModelError

Decoding = Literal["greedy", "beam", "sample"]
Stop = Literal["eos", "period"]
"""What ends a text: the tokenizer's end token, or the token of "."."""

# The published generate2 and generate_beam stop after this many tokens.
DEFAULT_MAX_NEW_TOKENS = 67

# More extreme factors would make scores overflow and probabilities NaN.
Temperature = Annotated[
    float, Range(1e-6, 1e6, hint="for the most probable tokens use decoding='greedy'")
]
Penalty = Annotated[float, Range(1e-6, 1e6, hint="1 is no penalty")]
Mass = Annotated[float, Range(above=0, most=1)]
Seed = Annotated[int, Range(0, 2**63 - 1)]
Seeds = Annotated[
    Seed | Sequence[Seed], Described("an integer from 0 to 2^63 - 1, or a list of some")
]
TokenIds = Annotated[Sequence[Count], Described("token ids", fits=len)]
EndIds = Annotated[Count | TokenIds, Described("a token id or a list of some")]
Word = Annotated[str, Described("text", fits=str.strip)]
Texts = Annotated[Sequence[Word], Described("a list of texts that are not blank")]
ListsOfTokenIds = Annotated[
    Sequence[TokenIds], Described("a list of lists of token ids", hint="texts go to bad_words")
]


@dataclass(frozen=True)
class Generation:
    """One generated text.

    `token_ids` are the generated tokens, including the one that ended the text. `token_logprobs`
    are their natural-log probabilities under the model at temperature 1 and without logits
    processors, whatever the decoding.
    """

    text: str
    token_ids: list[int] = field(default_factory=list)
    token_logprobs: list[float] = field(default_factory=list)

    @property
    def logprob(self) -> float:
        """Log-probability of the whole text: the sum over its tokens."""
        return math.fsum(self.token_logprobs)


@dataclass(frozen=True)
class DecodeOptions(Checked):
    """How a text is generated. Values are checked.

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
        seed: For sample: makes it reproducible. One integer gives every row's generator this seed,
            so equal rows get equal texts; a list gives each row its own.
        repetition_penalty: Above 1, tokens already written become less probable; below 1, more.
        no_repeat_ngram_size: No sequence of this many tokens is written twice; 0 means no limit.
        bad_words: Texts that must not be written. Each is forbidden as the tokenizer writes it at
            the start of a text and after a space. Case matters, and a word that is spelt with other
            tokens is not recognised.
        bad_words_ids: Sequences of token ids that must not be written.
        eos_token_id: Token or tokens that end a text, instead of the model's own. Special tokens
            of the tokenizer are left out of the text, others are part of it.
        caption_start: Words that every text continues, such as "a photo of". They follow the
            model's own prompt and are not part of the text.

    Raises:
        PrefixModelError: an option has the wrong type or is out of range.
    """

    error: ClassVar[type[PrefixModelError]] = PrefixModelError

    decoding: Decoding = "greedy"
    max_new_tokens: PositiveCount | None = None
    min_new_tokens: Count = 0
    beam_size: PositiveCount = 5
    temperature: Temperature = 1.0
    top_k: Count = 0
    top_p: Mass = 1.0
    seed: Seeds | None = None
    repetition_penalty: Penalty = 1.0
    no_repeat_ngram_size: Count = 0
    bad_words: Texts = ()
    bad_words_ids: ListsOfTokenIds = ()
    eos_token_id: EndIds | None = None
    caption_start: str = ""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "DecodeOptions":
        """Build from keyword arguments; numpy's scalars and arrays count as Python's.

        Unknown names raise PrefixModelError.
        """
        plain = {name: _without_numpy(value) for name, value in values.items()}
        return cls.read(plain, "decoding")

    @property
    def end_ids(self) -> list[int]:
        """The tokens of `eos_token_id`; empty if it is None."""
        given = self.eos_token_id
        return [] if given is None else [given] if isinstance(given, int) else list(given)


def _without_numpy(value: Any) -> Any:
    """Return numpy's scalars as Python's and its arrays as lists, also in lists and tuples."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, list | tuple):
        plain = [_without_numpy(one) for one in value]
        return tuple(plain) if isinstance(value, tuple) else plain
    return value


def known_at_the_end() -> PrefixModelError:
    """What to raise when beam search is to be streamed."""
    return PrefixModelError(
        "beam search knows its text only at the end; stream with greedy or sample"
    )
