"""Greedy decoding and sampling; each row of a batch is decoded independently."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from prefix_models.decoding.cached_lm import CachedLM
from prefix_models.decoding.options import DecodeOptions
from prefix_models.decoding.processors import nothing_left
from prefix_models.decoding.request import DecodeRequest
from prefix_models.errors import PrefixModelError


class Token(NamedTuple):
    """The token chosen for a row, with its natural-log probability at temperature 1."""

    row: int
    id: int
    logprob: float


# (allowed scores [n, vocabulary], rows [n] of the full batch, step) -> token ids [n]
Choice = Callable[[Tensor, Tensor, int], Tensor]


# The decorator disables gradients while this generator runs, not in its caller's loop body.
@torch.no_grad()
def decode_rows(lm: Any, request: DecodeRequest) -> Iterator[list[Token]]:
    """Yield, step by step, the tokens of all unfinished rows.

    A row ends with its first end token, which is yielded, or after the maximum number of new
    tokens; finished rows leave the batch. Greedy decoding chooses the same tokens as `generate2` of
    the published ClipCap code, whose top-p filter never removes the most probable token.

    Args:
        lm: a Hugging Face causal language model.
        request: its options' `decoding` is "greedy" or "sample"; sampling also uses temperature,
            top_k, top_p and seed.

    Raises:
        PrefixModelError: the logits processors leave no token for a row.
    """
    context, processors = request.context, request.processors
    if not len(context):
        return
    choose = _chooser(request.options, len(context), request.max_new_tokens)
    state = CachedLM(lm, context, request.mask)
    logits = state.logits
    rows = torch.arange(len(context), device=logits.device)
    written = rows.new_empty(len(rows), 0)  # updated for the logits processors only
    for step in range(request.max_new_tokens):
        scores = logits
        if processors is not None:
            scores = processors(written, logits)
            if not scores.amax(-1).isfinite().all():
                raise nothing_left(step)
        tokens = choose(scores, rows, step)
        logprobs = logits.log_softmax(-1).gather(1, tokens[:, None])[:, 0]
        yield [
            Token(*chosen)
            for chosen in zip(rows.tolist(), tokens.tolist(), logprobs.tolist(), strict=True)
        ]
        going = torch.isin(tokens, request.end_ids, invert=True).nonzero()[:, 0]
        if not len(going) or step + 1 == request.max_new_tokens:
            return
        if len(going) < len(rows):
            state.reorder(going)
            rows, tokens, written = rows[going], tokens[going], written[going]
        if processors is not None:
            written = torch.cat((written, tokens[:, None]), dim=1)
        logits = state.feed(tokens)


def _chooser(options: DecodeOptions, rows: int, steps: int) -> Choice:
    if options.decoding == "greedy":
        return lambda logits, rows, step: logits.argmax(-1)
    uniforms = _uniforms(options.seed, rows, steps)

    def sample(logits: Tensor, rows: Tensor, step: int) -> Tensor:
        draws = uniforms[:, step].to(logits.device)[rows]
        return _inverse_cdf(logits / options.temperature, options.top_p, draws)

    return sample


def _uniforms(seed: int | Sequence[int] | None, rows: int, steps: int) -> Tensor:
    """Draw the uniform random numbers [rows, steps] in [0, 1) for sampling.

    Each row has its own generator on the CPU, so that a text depends neither on the rest of the
    batch nor on the device. Without a seed, torch's global generator seeds every row.
    """
    if seed is None:
        seeds = torch.randint(2**63 - 1, (rows,)).tolist()
    elif isinstance(seed, int):
        seeds = [seed] * rows
    else:
        seeds = list(seed)
    if len(seeds) != rows:
        raise PrefixModelError(
            f"seed: expected one integer or one for each embedding, found {len(seeds)} for {rows}"
        )
    draws = [
        torch.rand(steps, generator=torch.Generator().manual_seed(one), dtype=torch.float64)
        for one in seeds
    ]
    return torch.stack(draws)


def _inverse_cdf(logits: Tensor, top_p: float, draws: Tensor) -> Tensor:
    """Sample [n] from the smallest set of tokens with at least `top_p` of the probability."""
    # float64: the error of a float32 sum over 50k tokens exceeds the probability of rare tokens.
    mass, order = logits.double().softmax(-1).sort(dim=-1, descending=True, stable=True)
    reached = mass.cumsum(-1)
    mass = mass.masked_fill(reached - mass >= top_p, 0.0)  # the first token always stays
    reached = mass.cumsum(-1)
    place = torch.searchsorted(reached, draws[:, None] * reached[:, -1:], right=True)
    # Rounding may put the draw at the very end of the sum; then take the last token with any mass.
    last = (mass > 0).sum(-1, keepdim=True) - 1
    return order.gather(1, torch.minimum(place, last))[:, 0]
