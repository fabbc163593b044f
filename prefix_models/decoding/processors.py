"""transformers' logits processors, built from decoding options."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SuppressTokensLogitsProcessor,
    TopKLogitsWarper,
)

from prefix_models.decoding.options import DecodeOptions
from prefix_models.errors import PrefixModelError


def logits_processors(
    options: DecodeOptions,
    tokenizer: Any,
    end_ids: Tensor,
    vocabulary: int,
    tokens: int | None = None,
) -> LogitsProcessorList | None:
    """Build the map from tokens so far [n, t] and scores [n, vocabulary] to processed scores.

    The order is that of transformers' `generate`. Forbidden tokens score minus infinity.

    Args:
        options: decoding options.
        tokenizer: of the language model.
        end_ids: [E], tokens that end a text, on the language model's device.
        vocabulary: number of rows of the language model's embedding.
        tokens: how many of these rows the tokenizer uses; None means all. Many models pad their
            vocabulary to a round number; the padding stands for no text and is never generated.

    Returns:
        None if no score changes.

    Raises:
        PrefixModelError: a forbidden token is unknown or ends the text.
    """
    processors = LogitsProcessorList()
    if tokens is not None and tokens < vocabulary:
        rest = list(range(tokens, vocabulary))
        processors.append(SuppressTokensLogitsProcessor(rest, end_ids.device))
    if options.repetition_penalty != 1:
        processors.append(RepetitionPenaltyLogitsProcessor(float(options.repetition_penalty)))
    if options.no_repeat_ngram_size:
        processors.append(NoRepeatNGramLogitsProcessor(options.no_repeat_ngram_size))
    forbidden = _forbidden(options, tokenizer, end_ids.tolist(), vocabulary)
    if forbidden:
        processors.append(_BadWords(forbidden))
    if options.min_new_tokens:
        processors.append(
            MinNewTokensLengthLogitsProcessor(0, options.min_new_tokens, end_ids, end_ids.device)
        )
    if options.top_k and options.decoding == "sample":
        processors.append(TopKLogitsWarper(options.top_k))
    return processors or None


class _BadWords(NoBadWordsLogitsProcessor):
    """Forbids sequences from the first token of a text onwards.

    Some releases of transformers (5.6, for example) skip a sequence that is one token longer than
    the text so far. So the text is padded in front with a token that no sequence contains.
    """

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """See LogitsProcessor."""
        allowed: Tensor = super().__call__(F.pad(input_ids, (1, 0), value=-1), scores)
        return allowed


def nothing_left(step: int) -> PrefixModelError:
    """The error if no token is left to continue a text; `step` counts from 0."""
    return PrefixModelError(
        f"the decoding options leave no token to choose as number {step + 1} of a text: relax "
        "min_new_tokens, repetition_penalty, no_repeat_ngram_size, bad_words or bad_words_ids"
    )


def known_ids(text: str, tokenizer: Any) -> list[int] | None:
    """Return the token ids of a text, or None if the tokenizer does not know all of it."""
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return None if tokenizer.unk_token_id in ids else ids


def _forbidden(
    options: DecodeOptions, tokenizer: Any, end_ids: list[int], vocabulary: int
) -> list[list[int]]:
    """Return the token sequences of `bad_words` and `bad_words_ids`, without duplicates."""
    sequences = [("bad_words_ids", list(ids)) for ids in options.bad_words_ids]
    for text in options.bad_words:
        for spelling in (text.strip(), f" {text.strip()}"):
            ids = known_ids(spelling, tokenizer)
            if ids:  # what the tokenizer does not know can't be generated anyway
                sequences.append((f"bad_words: {text!r}", ids))
    for name, ids in sequences:
        if max(ids) >= vocabulary:
            raise PrefixModelError(
                f"{name}: token {max(ids)} is beyond the language model's {vocabulary} tokens"
            )
        if len(ids) == 1 and ids[0] in end_ids:
            raise PrefixModelError(
                f"{name}: token {ids[0]} ends a text; to make texts longer use "
                "min_new_tokens, to end them with another token eos_token_id"
            )
    return [list(ids) for ids in dict.fromkeys(tuple(ids) for _, ids in sequences)]
