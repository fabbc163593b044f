"""A causal language model read step by step, with its key-value cache."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import DynamicCache

from prefix_models.errors import PrefixModelError


@contextmanager
def in_eval_mode(module: nn.Module) -> Iterator[None]:
    """Switch dropout and the like off inside the block, then restore every flag as it was."""
    training = [part for part in module.modules() if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True


def last_logits(lm: Any, count: int) -> dict[str, int]:
    """Arguments of a forward that needs scores of the last `count` positions only.

    Empty where the model cannot be told so: its output holds all positions then.
    """
    model = lm.get_base_model() if hasattr(lm, "get_base_model") else lm  # inside peft's wrapper
    known = "logits_to_keep" in inspect.signature(model.forward).parameters
    return {"logits_to_keep": count} if known else {}


class CachedLM:
    """The state of a batch of unfinished texts in a Hugging Face causal language model.

    Args:
        lm: any causal model that takes `inputs_embeds` and a `DynamicCache`. It is not changed.
        context: [N, C, hidden], what stands before the text.
        mask: bool [N, C], for rows of unequal length: False on the left of a shorter row's context,
            where it is padded. None: all rows have C positions, as always in ClipCap. Or float in
            [0, 1]: 0 where padded, elsewhere how much a position counts. A position of weight w is
            to every attention what w positions with its key and value would be: log w is added to
            its scores, in all heads and layers.

    `logits` holds the scores [N, vocabulary] of the next token after the context.

    Raises:
        PrefixModelError: a float mask, and attention that takes no such addition.
    """

    def __init__(self, lm: Any, context: Tensor, mask: Tensor | None = None) -> None:
        self._lm = lm
        self._embed = lm.get_input_embeddings()
        self._cache = DynamicCache(config=lm.config)
        self._options = last_logits(lm, 1)
        self._mask = None if mask is None else (mask > 0).long()
        self._log_weights: Tensor | None = None
        if mask is not None and mask.is_floating_point():
            _check_takes_scores(lm)
            self._log_weights = mask.log()
        self.logits = self._forward(context)

    def feed(self, tokens: Tensor) -> Tensor:
        """Append one token a row, [N]; return the scores [N, vocabulary] of the one after it."""
        if self._mask is not None:
            self._mask = F.pad(self._mask, (0, 1), value=1)
        if self._log_weights is not None:
            self._log_weights = F.pad(self._log_weights, (0, 1))
        return self._forward(self._embed(tokens)[:, None])

    def repeat(self, times: int) -> None:
        """Make each row `times` rows, side by side."""
        self._cache.batch_repeat_interleave(times)
        if self._mask is not None:
            self._mask = self._mask.repeat_interleave(times, dim=0)
        if self._log_weights is not None:
            self._log_weights = self._log_weights.repeat_interleave(times, dim=0)

    def select(self, rows: Tensor) -> None:
        """Make row i what row rows[i] was: reorders, drops or repeats rows."""
        self._cache.reorder_cache(rows)
        if self._mask is not None:
            self._mask = self._mask[rows]
        if self._log_weights is not None:
            self._log_weights = self._log_weights[rows]

    def _forward(self, embeddings: Tensor) -> Tensor:
        with in_eval_mode(self._lm):
            output = self._lm(
                inputs_embeds=embeddings,
                past_key_values=self._cache,
                use_cache=True,
                **self._options,
                **self._places(embeddings.shape[1]),
            )
        logits: Tensor = output.logits[:, -1]
        # Probabilities of a large vocabulary need more than half precision; float64 stays.
        return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits

    def _places(self, count: int) -> dict[str, Tensor]:
        """Say which positions are padding and where the last `count` ones stand.

        A forward does not derive positions from the mask; only transformers' `generate` does.
        """
        if self._mask is None:
            return {}
        positions = (self._mask.cumsum(1) - 1).clamp(min=0)[:, -count:]
        mask = self._mask if self._log_weights is None else self._added_scores(count)
        return {"attention_mask": mask, "position_ids": positions}

    def _added_scores(self, count: int) -> Tensor:
        """What is added to attention scores [N, 1, count, positions] of the last `count` ones."""
        assert self._log_weights is not None
        dtype = self._embed.weight.dtype
        lowest = torch.finfo(dtype).min  # not -inf: rows of padding would give NaN
        length = self._log_weights.shape[1]
        ahead = torch.ones(count, length, dtype=torch.bool, device=self._log_weights.device)
        ahead = ahead.triu(length - count + 1)
        added = self._log_weights.clamp(min=lowest)[:, None, None, :].to(dtype)
        return added.masked_fill(ahead, lowest)


def _check_takes_scores(lm: Any) -> None:
    kind = lm.config.get_text_config()._attn_implementation
    if kind not in ("sdpa", "eager"):
        raise PrefixModelError(
            f"expected a language model with attention sdpa or eager, which can weigh positions, "
            f"found {kind}; load it with attn_implementation='sdpa'"
        )
