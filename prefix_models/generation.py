"""Text generation shared by every model that puts a prefix before a causal language model."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from prefix_models.config import Stop
from prefix_models.decoding import (
    DecodeOptions,
    Generation,
    beam_search,
    decode_rows,
    text_pieces,
)
from prefix_models.decoding.options import DEFAULT_MAX_NEW_TOKENS, Decoding
from prefix_models.errors import PrefixModelError


class PrefixGenerator(nn.Module):
    """A language model that writes after a context made from embeddings.

    Subclasses say how the context is made (`context`) and how long it is (`context_length`).

    Args:
        lm: Hugging Face causal language model that takes `inputs_embeds`. Held, not changed.
        tokenizer: its Hugging Face tokenizer.
        stop: what ends a text, see ClipCapConfig.

    Raises:
        PrefixModelError: the tokenizer does not fit the language model, or lacks what `stop` needs.
    """

    context_length: int  # positions before the text

    def __init__(self, lm: Any, tokenizer: Any, stop: Stop) -> None:
        super().__init__()
        vocabulary = lm.get_input_embeddings().weight.shape[0]
        if len(tokenizer) != vocabulary:
            raise PrefixModelError(
                f"tokenizer knows {len(tokenizer)} tokens, the language model {vocabulary}; "
                "use the tokenizer it was trained with, or lm.resize_token_embeddings"
            )
        self.lm = lm
        self.tokenizer = tokenizer
        self._stop = stop
        self.stop_id = _stop_id(tokenizer, stop)

    def context(self, embeddings: Tensor) -> Tensor:
        """Return what stands before the text, [M, context_length, hidden]."""
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        """Where the language model is."""
        device: torch.device = self.lm.get_input_embeddings().weight.device
        return device

    @property
    def positions(self) -> int:
        """Most positions the language model can read; very large where it has no limit."""
        return getattr(self.lm.config, "max_position_embeddings", None) or 2**31

    @property
    def room(self) -> int:
        """Most tokens of text after the context."""
        return self.positions - self.context_length

    @torch.no_grad()
    def generate(
        self,
        embeddings: Tensor,
        *,
        decoding: Decoding = "greedy",
        max_new_tokens: int | None = None,
        beam_size: int = 5,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int | Sequence[int] | None = None,
    ) -> list[Generation]:
        """Write one text for each embedding.

        A row's text does not depend on what else is in the batch.

        Args:
            embeddings: [M, d], finite; on any device, of any float dtype.
            decoding: "greedy", the most probable token at each step; "beam", the best hypothesis of
                a beam; "sample", random tokens. The first two give the published ClipCap code's
                tokens (generate2, generate_beam).
            max_new_tokens: most tokens a text; None means 67 as published, or what fits.
            beam_size: hypotheses a beam keeps.
            temperature: divides the scores; below 1 sharper. Beam and sample only.
            top_p: sample from the most probable tokens that together hold this mass, (0, 1].
            seed: sample reproducibly. One integer starts every row's own generator alike, so
                equal rows get equal texts; a list gives each row its own.

        Raises:
            PrefixModelError: an option out of range, or embeddings of another shape or not finite.
        """
        options = DecodeOptions(decoding, max_new_tokens, beam_size, temperature, top_p, seed)
        if decoding == "beam":
            return [beam[0] for beam in self._beams(embeddings, options)]
        context, limit = self._start(embeddings, options)
        ids: list[list[int]] = [[] for _ in context]
        logprobs: list[list[float]] = [[] for _ in context]
        for step in decode_rows(self.lm, context, self.stop_id, limit, options):
            for token in step:
                ids[token.row].append(token.id)
                logprobs[token.row].append(token.logprob)
        return [
            Generation(self.decode(row), row, row_logprobs)
            for row, row_logprobs in zip(ids, logprobs, strict=True)
        ]

    @torch.no_grad()
    def beams(
        self,
        embeddings: Tensor,
        *,
        max_new_tokens: int | None = None,
        beam_size: int = 5,
        temperature: float = 1.0,
    ) -> list[list[Generation]]:
        """Return all `beam_size` hypotheses for each embedding, best first; see `generate`.

        "Best" is the highest mean log-probability of the tokens at the search's temperature.
        """
        return self._beams(
            embeddings, DecodeOptions("beam", max_new_tokens, beam_size, temperature)
        )

    def stream(
        self,
        embeddings: Tensor,
        *,
        decoding: Decoding = "greedy",
        max_new_tokens: int | None = None,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int | None = None,
    ) -> Iterator[str]:
        """Yield the text of one embedding [1, d] in pieces, about a word each, as it is written.

        The pieces put together are `generate`'s text under the same options (and a seed).

        Raises:
            PrefixModelError: at the call, not at the first piece; as `generate`, and for beams,
                whose text is known only at the end, or more than one embedding.
        """
        options = DecodeOptions(
            decoding, max_new_tokens, temperature=temperature, top_p=top_p, seed=seed
        )
        if decoding == "beam":
            raise PrefixModelError(
                "a beam's text is known only at the end; stream greedy or sample"
            )
        with torch.no_grad():
            context, limit = self._start(embeddings, options)
        if len(context) != 1:
            raise PrefixModelError(f"stream writes one text, got {len(context)} embeddings")
        steps = decode_rows(self.lm, context, self.stop_id, limit, options)
        return text_pieces((token.id for step in steps for token in step), self.decode)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of generated tokens: without the end token, or with the final period."""
        return str(self.tokenizer.decode(list(token_ids), skip_special_tokens=self._stop == "eos"))

    def _beams(self, embeddings: Tensor, options: DecodeOptions) -> list[list[Generation]]:
        context, limit = self._start(embeddings, options)
        size, temperature = options.beam_size, options.temperature
        return [
            [Generation(self.decode(one.token_ids), *one) for one in row]
            for row in beam_search(self.lm, context, self.stop_id, limit, size, temperature)
        ]

    def _start(self, embeddings: Tensor, options: DecodeOptions) -> tuple[Tensor, int]:
        """Check what generation needs; return the context and the most new tokens."""
        context = self.context(embeddings)
        bad = (~embeddings.isfinite().all(1)).nonzero()[:, 0].tolist()
        if bad:
            raise PrefixModelError(f"embeddings must be finite; NaN or infinity in rows {bad[:10]}")
        limit = options.max_new_tokens
        if limit is None:
            return context, min(DEFAULT_MAX_NEW_TOKENS, self.room)
        if limit > self.room:
            raise PrefixModelError(
                f"{self.context_length} positions of prefix and prompt and {limit} new tokens "
                f"exceed the language model's {self.positions} positions; ask for at most "
                f"{self.room} new tokens"
            )
        return context, limit


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
            f"stop='period' needs a tokenizer in which '.' is one token, got {ids}; use stop='eos'"
        )
    return int(ids[0])
