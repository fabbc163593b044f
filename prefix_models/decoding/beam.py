"""Beam search with the rules of the published ClipCap code, batched and cached."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from prefix_models.decoding.cached_lm import CachedLM
from prefix_models.decoding.processors import nothing_left
from prefix_models.decoding.request import DecodeRequest
from prefix_models.errors import PrefixModelError

# Continues a finished hypothesis while others in its beam go on; never part of a result.
FILLER = 0


class Hypothesis(NamedTuple):
    """One result of a beam: tokens with the stop token, and their log-probabilities."""

    token_ids: list[int]
    token_logprobs: list[float]


@dataclass
class _Beams:
    """State of n rows with B hypotheses each, all t tokens long (finished ones are padded)."""

    rows: Tensor  # [n], which row of the full batch
    tokens: Tensor  # [n, B, t]
    logprobs: Tensor  # [n, B, t], at temperature 1
    scores: Tensor  # [n, B], sum of log-probabilities at the search's temperature
    lengths: Tensor  # [n, B], float: tokens up to and including the stop token
    stopped: Tensor  # [n, B], by an end token or because no token may follow
    ruled_out: Tensor  # [n, B], by logits processors; never part of a result

    def keep(self, rows: Tensor) -> None:
        for name, value in vars(self).items():
            setattr(self, name, value[rows])


@torch.no_grad()
def beam_search(lm: Any, request: DecodeRequest) -> list[list[Hypothesis]]:
    """Return for each row `beam_size` hypotheses, best first, as `generate_beam` would.

    This is not the usual beam search: hypotheses are ranked by their *mean* log-probability at
    every step; finished ones stay in the beam, compete with unfinished ones, and can be dropped for
    good. The arithmetic follows the published code operation by operation (softmax, then log; mean
    times length), because rounding decides near ties. A row leaves the batch when all its
    hypotheses are finished, which is when the published loop, run on this row alone, stops.

    Logits processors change the log-probabilities used for ranking, not those that are returned. If
    they allow fewer hypotheses than the beam holds, only these are returned.

    Args:
        lm: a Hugging Face causal language model.
        request: of its options, beam_size (at most the vocabulary size) and temperature are used.

    Raises:
        PrefixModelError: beam_size is too large, or the logits processors leave no hypothesis for
            a row.
    """
    context, beam_size = request.context, request.options.beam_size
    results: list[list[Hypothesis]] = [[] for _ in range(len(context))]
    if not len(context):
        return results
    state = CachedLM(lm, context, request.mask)
    vocabulary = state.logits.shape[-1]
    if beam_size > vocabulary:
        raise PrefixModelError(
            f"beam_size: expected at most the vocabulary's {vocabulary} tokens, found {beam_size}"
        )
    beams = _first(state.logits, request)
    state.reorder(beams.rows.repeat_interleave(beam_size))
    source = torch.arange(beam_size, device=context.device).expand(len(context), -1)
    for step in range(1, request.max_new_tokens + 1):
        if request.processors is not None and beams.ruled_out.all(1).any():
            raise nothing_left(step - 1)
        last = step == request.max_new_tokens
        done = torch.ones_like(beams.rows).bool() if last else beams.stopped.all(1)
        _collect(beams, done, results)
        if done.all():
            break
        going = (~done).nonzero()[:, 0]
        first = beam_size * torch.arange(len(source), device=source.device)
        state.reorder((first[:, None] + source)[going].flatten())
        beams.keep(going)
        logits = state.feed(beams.tokens[..., -1].flatten())
        source = _advance(beams, logits.view(-1, beam_size, vocabulary), request)
    return results


def _first(logits: Tensor, request: DecodeRequest) -> _Beams:
    nothing = torch.empty(len(logits), 0, dtype=torch.long, device=logits.device)
    scores, tokens = _ranked(logits, nothing, request).topk(request.options.beam_size, -1)
    ruled_out = _ruled_out(scores, request)
    return _Beams(
        rows=torch.arange(len(logits), device=logits.device),
        tokens=tokens[..., None],
        logprobs=logits.log_softmax(-1).gather(1, tokens)[..., None],
        scores=scores,
        lengths=torch.ones_like(scores),
        stopped=torch.isin(tokens, request.end_ids) | ruled_out,
        ruled_out=ruled_out,
    )


def _ranked(logits: Tensor, written: Tensor, request: DecodeRequest) -> Tensor:
    """Return the log-probabilities to rank [..., vocabulary], after tokens `written` [..., t]."""
    logits = logits / request.options.temperature
    if request.processors is None:
        return logits.softmax(-1).log()
    # softmax rounds unlikely tokens to 0, but they may be all that the processors leave.
    allowed: Tensor = request.processors(
        written.flatten(0, -2), logits.log_softmax(-1).flatten(0, -2)
    )
    return allowed.view_as(logits)


def _ruled_out(scores: Tensor, request: DecodeRequest) -> Tensor:
    # Without processors minus infinity is only a matter of rounding, and kept as published.
    return torch.zeros_like(scores).bool() if request.processors is None else scores.isneginf()


def _advance(beams: _Beams, logits: Tensor, request: DecodeRequest) -> Tensor:
    """Choose the next tokens; return which hypothesis each of them continues, [n, B]."""
    vocabulary = logits.shape[-1]
    logp = _ranked(logits, beams.tokens, request)  # [n, B, vocabulary]
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
    beams.ruled_out = _ruled_out(beams.scores, request)
    stopped = beams.stopped.gather(1, source) | torch.isin(tokens, request.end_ids)
    beams.stopped = stopped | beams.ruled_out
    beams.tokens = torch.cat((beams.tokens[rows, source], tokens[..., None]), -1)
    beams.logprobs = torch.cat((beams.logprobs[rows, source], new[..., None]), -1)
    return source


def _collect(beams: _Beams, done: Tensor, results: list[list[Hypothesis]]) -> None:
    """Store the hypotheses of the rows in `done` [n], sorted by mean log-probability."""
    for n in done.nonzero()[:, 0].tolist():
        order = (beams.scores[n] / beams.lengths[n]).argsort(descending=True).tolist()
        lengths, ruled_out = beams.lengths[n].long().tolist(), beams.ruled_out[n].tolist()
        tokens, logprobs = beams.tokens[n].tolist(), beams.logprobs[n].tolist()
        results[int(beams.rows[n])] = [
            Hypothesis(tokens[i][: lengths[i]], logprobs[i][: lengths[i]])
            for i in order
            if not ruled_out[i]
        ]
