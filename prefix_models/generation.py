"""Text generation, shared by all models that put a prefix before a causal language model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from prefix_models.decoding import (
    DecodeOptions,
    DecodeRequest,
    Generation,
    beam_search,
    decode_rows,
    known_ids,
    logits_processors,
    text_pieces,
)
from prefix_models.decoding.options import DEFAULT_MAX_NEW_TOKENS, Stop, known_at_the_end
from prefix_models.decoding.streaming import TextPieces
from prefix_models.errors import PrefixModelError
from prefix_models.lm.calling import calling_of

Heard = Callable[[int, str], None]
"""Called with the number of a row and a piece of its text."""


class PrefixGenerator(nn.Module):
    """A language model that continues a context made from embeddings.

    Subclasses define how the context is made (`context`) and how long it is (`context_length`).

    Args:
        lm: Hugging Face causal language model that takes `inputs_embeds` and has a key-value or
            state cache. It is not copied and not changed.
        tokenizer: its Hugging Face tokenizer.
        stop: what ends a text, see ClipCapConfig.

    Raises:
        PrefixModelError: the tokenizer does not fit the language model or lacks the token that
            `stop` needs; or the language model has no usable cache (RWKV, RecurrentGemma).
    """

    context_length: int  # positions before the text

    def __init__(self, lm: Any, tokenizer: Any, stop: Stop) -> None:
        super().__init__()
        calling_of(lm)  # raises if it can't be decoded
        vocabulary = lm.get_input_embeddings().weight.shape[0]
        # Many published models pad their vocabulary to a round number of rows.
        self._tokens = tokens_of(tokenizer)
        if self._tokens > vocabulary:
            raise PrefixModelError(
                f"tokenizer knows {self._tokens} tokens, the language model {vocabulary}; "
                "use the tokenizer it was trained with, or lm.resize_token_embeddings"
            )
        self.lm = lm
        self.tokenizer = tokenizer
        self._stop = stop
        self.stop_id = _stop_id(tokenizer, stop)

    def context(self, embeddings: Tensor) -> Tensor:
        """Return the vectors before the text, [M, context_length, hidden]."""
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        """The language model's device."""
        device: torch.device = self.lm.get_input_embeddings().weight.device
        return device

    @property
    def positions(self) -> int:
        """Maximum number of positions the language model can read; very large if unlimited."""
        config = self.lm.config.get_text_config()
        return getattr(config, "max_position_embeddings", None) or 2**31

    @property
    def room(self) -> int:
        """Maximum number of text tokens after the context."""
        return self.positions - self.context_length

    @torch.no_grad()
    def generate(
        self, embeddings: Tensor, *, heard: Heard | None = None, **options: Any
    ) -> list[Generation]:
        """Write one text for each embedding.

        A row's text does not depend on what else is in the batch.

        Args:
            embeddings: [M, d], finite, on any device and of any float dtype.
            heard: called with a row's number and a piece of its text as all are written, about a
                word at a time; joined, a row's pieces are its text. What it raises stops the work.
            **options: fields of `prefix_models.decoding.DecodeOptions`.

        Raises:
            PrefixModelError: an option is unknown or out of range, the embeddings have the wrong
                shape or are not finite, or the options leave no token to generate; `heard` with
                beam search, whose text is known only at the end.
        """
        return self._write(self.context(embeddings), DecodeOptions.from_dict(options), heard=heard)

    def _write(
        self,
        context: Tensor,
        options: DecodeOptions,
        mask: Tensor | None = None,
        heard: Heard | None = None,
    ) -> list[Generation]:
        """Continue each context [M, C, hidden]; `mask` as in CachedLM, `heard` as in generate."""
        if options.decoding == "beam":
            if heard is not None:
                raise known_at_the_end()
            return [beam[0] for beam in self._beams(context, options, mask)]
        request = self._request(context, options, mask)
        ids: list[list[int]] = [[] for _ in context]
        logprobs: list[list[float]] = [[] for _ in context]
        pieces = [TextPieces(lambda ids: self._text(ids, options)) for _ in context]
        for step in decode_rows(self.lm, request):
            for token in step:
                ids[token.row].append(token.id)
                logprobs[token.row].append(token.logprob)
                if heard is not None and (piece := pieces[token.row].add(token.id)):
                    heard(token.row, piece)
        for row, last in enumerate(pieces):
            if heard is not None and (piece := last.rest()):
                heard(row, piece)
        return [
            Generation(self._text(row, options), row, row_logprobs)
            for row, row_logprobs in zip(ids, logprobs, strict=True)
        ]

    @torch.no_grad()
    def beams(self, embeddings: Tensor, **options: Any) -> list[list[Generation]]:
        """Return all `beam_size` hypotheses for each embedding, best first; see `generate`.

        Hypotheses are ranked by the mean log-probability of their tokens at the search's
        temperature, after a repetition penalty. Logits processors may leave fewer than `beam_size`
        hypotheses, but at least one.
        """
        checked = DecodeOptions.from_dict({"decoding": "beam", **options})
        if checked.decoding != "beam":
            raise PrefixModelError(
                f"beams() always keeps a beam: leave decoding out, found {checked.decoding!r}"
            )
        return self._beams(self.context(embeddings), checked)

    def stream(self, embeddings: Tensor, **options: Any) -> Iterator[str]:
        """Yield the text of one embedding [1, d] piece by piece, about a word at a time.

        Joined, the pieces are the text that `generate` returns with the same options (and seed).

        Raises:
            PrefixModelError: as `generate`, and for beam search, whose text is known only at the
                end, or for more than one embedding. It is raised at the call, not at the first
                piece, unless the options leave no token in the course of generation.
        """
        checked = DecodeOptions.from_dict(options)
        with torch.no_grad():
            context = self.context(embeddings)
        return self._stream(context, checked)

    def _stream(
        self, context: Tensor, options: DecodeOptions, mask: Tensor | None = None
    ) -> Iterator[str]:
        if options.decoding == "beam":
            raise known_at_the_end()
        if len(context) != 1:
            raise PrefixModelError(f"stream takes one embedding, found {len(context)}")
        steps = decode_rows(self.lm, self._request(context, options, mask))
        tokens = (token.id for step in steps for token in step)
        return text_pieces(tokens, lambda ids: self._text(ids, options))

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of generated tokens, without the end token but with a final period."""
        return str(self.tokenizer.decode(list(token_ids), skip_special_tokens=self._stop == "eos"))

    def _beams(
        self, context: Tensor, options: DecodeOptions, mask: Tensor | None = None
    ) -> list[list[Generation]]:
        found = beam_search(self.lm, self._request(context, options, mask))
        return [
            [Generation(self._text(one.token_ids, options), *one) for one in row] for row in found
        ]

    def _text(self, token_ids: list[int], options: DecodeOptions) -> str:
        if options.eos_token_id is None:
            return self.decode(token_ids)
        return str(self.tokenizer.decode(token_ids, skip_special_tokens=True))

    @torch.no_grad()
    def _request(
        self, context: Tensor, options: DecodeOptions, mask: Tensor | None = None
    ) -> DecodeRequest:
        """Check the options that depend on the language model and its tokenizer."""
        embed = self.lm.get_input_embeddings()
        if options.caption_start:
            ids = known_ids(options.caption_start, self.tokenizer)
            if not ids:
                raise PrefixModelError(
                    f"caption_start: the tokenizer does not know all of {options.caption_start!r}; "
                    "use other words"
                )
            words = embed(torch.tensor(ids, device=self.device)).expand(len(context), -1, -1)
            context = torch.cat((context, words), dim=1)
            if mask is not None:
                mask = torch.cat((mask, mask.new_ones(words.shape[:2])), dim=1)
        limit = self._limit(context, options)
        vocabulary = embed.weight.shape[0]
        ends = options.end_ids or [self.stop_id]
        if max(ends) >= vocabulary:
            raise PrefixModelError(
                f"eos_token_id: {max(ends)} is beyond the language model's {vocabulary} tokens"
            )
        end_ids = torch.tensor(ends, device=self.device)
        processors = logits_processors(options, self.tokenizer, end_ids, vocabulary, self._tokens)
        return DecodeRequest(context, end_ids, limit, options, processors, mask)

    def _limit(self, context: Tensor, options: DecodeOptions) -> int:
        """Return the maximum number of new tokens after a context [M, C, hidden]."""
        room = self.positions - context.shape[1]
        limit = options.max_new_tokens or min(DEFAULT_MAX_NEW_TOKENS, max(room, 1))
        if limit > room:
            raise PrefixModelError(
                f"{context.shape[1]} positions of prefix and prompt and {limit} new tokens "
                f"exceed the language model's {self.positions} positions; ask for at most "
                f"{max(room, 0)} new tokens"
            )
        if options.min_new_tokens > limit:
            raise PrefixModelError(
                f"min_new_tokens={options.min_new_tokens} exceeds the maximum of {limit} new "
                f"tokens; lower it, or raise max_new_tokens to at most {room}"
            )
        return limit


def tokens_of(tokenizer: Any) -> int:
    """Return the number of embedding rows that the tokenizer's ids need."""
    return 1 + max(tokenizer.get_vocab().values())


def _stop_id(tokenizer: Any, stop: Stop) -> int:
    if stop == "eos":
        if tokenizer.eos_token_id is None:
            raise PrefixModelError(
                "stop='eos' needs a tokenizer with an end token: set eos_token, or stop='period'"
            )
        return int(tokenizer.eos_token_id)
    ids = tokenizer(".", add_special_tokens=False)["input_ids"]
    if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
        raise PrefixModelError(
            f"stop='period' needs a tokenizer in which '.' is one token, found {ids}; use"
            " stop='eos'"
        )
    return int(ids[0])
