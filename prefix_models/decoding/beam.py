"""Beam search with the rules of the published ClipCap code, batched and cached."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from prefix_models.decoding.cached_lm import CachedLM
from prefix_models.errors import PrefixModelError

# What an ended hypothesis is continued with while others in its beam go on; never part of a result.
FILLER = 0


class Hypothesis(NamedTuple):
    """One result of a beam: tokens with the stop token, and their log-probabilities."""

    token_ids: list[int]
    token_logprobs: list[float]


@dataclass
class _Beams:
    """State of n rows with B hypotheses each, all t tokens long (ended ones filled up)."""

    rows: Tensor  # [n], which row of the full batch
    tokens: Tensor  # [n, B, t]
    logprobs: Tensor  # [n, B, t], at temperature 1
    scores: Tensor  # [n, B], sum of log-probabilities at the search's temperature
    lengths: Tensor  # [n, B], float: tokens up to and including the stop token
    stopped: Tensor  # [n, B]

    def keep(self, rows: Tensor) -> None:
        for name, value in vars(self).items():
            setattr(self, name, value[rows])


@torch.no_grad()
def beam_search(
    lm: Any,
    context: Tensor,
    stop_id: int,
    max_new_tokens: int,
    beam_size: int = 5,
    temperature: float = 1.0,
) -> list[list[Hypothesis]]:
    """Return for each row `beam_size` hypotheses, best first, as `generate_beam` would.

    Not the usual beam search: hypotheses are ranked by their *mean* log-probability at every step;
    ended ones stay in the beam, compete there with unfinished ones, and can be pushed out for good.
    Arithmetic follows the published code operation by operation (softmax, then log; mean times
    length), because rounding decides near ties. A row leaves the batch when all its hypotheses have
    ended, which is when the published loop, run on this row alone, stops.

    Args:
        lm: a Hugging Face causal language model.
        context: [N, C, hidden], prefix (and prompt) of every row.
        stop_id: token that ends a text.
        max_new_tokens: most tokens a hypothesis.
        beam_size: hypotheses kept, at most the vocabulary.
        temperature: divides the scores before the softmax.
    """
    results: list[list[Hypothesis]] = [[] for _ in range(len(context))]
    if not len(context):
        return results
    state = CachedLM(lm, context)
    vocabulary = state.logits.shape[-1]
    if beam_size > vocabulary:
        raise PrefixModelError(
            f"beam_size must be at most the vocabulary's {vocabulary} tokens, got {beam_size}"
        )
    beams = _first(state.logits, stop_id, beam_size, temperature)
    state.repeat(beam_size)
    source = torch.arange(beam_size, device=context.device).expand(len(context), -1)
    for step in range(1, max_new_tokens + 1):
        done = beams.stopped.all(1) if step < max_new_tokens else torch.ones_like(beams.rows).bool()
        _collect(beams, done, results)
        if done.all():
            break
        going = (~done).nonzero()[:, 0]
        first = beam_size * torch.arange(len(source), device=source.device)
        state.select((first[:, None] + source)[going].flatten())
        beams.keep(going)
        logits = state.feed(beams.tokens[..., -1].flatten())
        source = _advance(beams, logits.view(-1, beam_size, vocabulary), stop_id, temperature)
    return results


def _first(logits: Tensor, stop_id: int, beam_size: int, temperature: float) -> _Beams:
    scores, tokens = (logits / temperature).softmax(-1).log().topk(beam_size, -1)
    return _Beams(
        rows=torch.arange(len(logits), device=logits.device),
        tokens=tokens[..., None],
        logprobs=logits.log_softmax(-1).gather(1, tokens)[..., None],
        scores=scores,
        lengths=torch.ones_like(scores),
        stopped=tokens == stop_id,
    )


def _advance(beams: _Beams, logits: Tensor, stop_id: int, temperature: float) -> Tensor:
    """Choose the next token of every beam; return which hypothesis each continues, [n, B]."""
    vocabulary = logits.shape[-1]
    logp = (logits / temperature).softmax(-1).log()  # [n, B, vocabulary]
    logp[beams.stopped] = -torch.inf
    logp[..., FILLER].masked_fill_(beams.stopped, 0.0)
    lengths = beams.lengths + ~beams.stopped
    means = (beams.scores[..., None] + logp) / lengths[..., None]
    means, flat = means.flatten(1).topk(means.shape[1], -1)
    source, tokens = flat // vocabulary, flat % vocabulary
    rows = torch.arange(len(source), device=source.device)[:, None]
    new = logits.log_softmax(-1)[rows, source, tokens]
    beams.lengths = lengths.gather(1, source)
    beams.scores = means * beams.lengths
    beams.stopped = beams.stopped.gather(1, source) | (tokens == stop_id)
    beams.tokens = torch.cat((beams.tokens[rows, source], tokens[..., None]), -1)
    beams.logprobs = torch.cat((beams.logprobs[rows, source], new[..., None]), -1)
    return source


def _collect(beams: _Beams, done: Tensor, results: list[list[Hypothesis]]) -> None:
    """Store the hypotheses of the rows in `done` [n], sorted by mean log-probability."""
    for n in done.nonzero()[:, 0].tolist():
        order = (beams.scores[n] / beams.lengths[n]).argsort(descending=True).tolist()
        lengths = beams.lengths[n].long().tolist()
        tokens, logprobs = beams.tokens[n].tolist(), beams.logprobs[n].tolist()
        results[int(beams.rows[n])] = [
            Hypothesis(tokens[i][: lengths[i]], logprobs[i][: lengths[i]]) for i in order
        ]
