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

# Families that write what they have read into their own modules, in an order of rows of their own.
_STATE_INSIDE = ("recurrent_gemma",)

# Families whose attention knows distances only (ALiBi): they need no positions beside a mask.
_DISTANCES_ONLY = ("bloom", "mpt")


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
    return {"logits_to_keep": count} if _takes(lm, "logits_to_keep") else {}


def check_takes_cache(lm: Any) -> None:
    """Raise PrefixModelError unless the language model keeps all it has read in a `DynamicCache`.

    Mamba and RWKV would be given one, ignore it without a word and write nonsense.
    """
    base = _base(lm)
    # Private, but `generate` asks this too, and the answer depends on transformers' version.
    supports = getattr(base, "_supports_default_dynamic_cache", lambda: True)
    inside = getattr(base.config, "model_type", None) in _STATE_INSIDE
    if inside or not supports() or not _takes(lm, "past_key_values"):
        raise PrefixModelError(
            "expected a language model that keeps what it has read in past_key_values, a "
            f"DynamicCache, found {_name(lm)}, which does not; use another, such as Llama or Qwen"
        )


def _takes(lm: Any, name: str) -> bool:
    return name in inspect.signature(_base(lm).forward).parameters


def _name(lm: Any) -> str:
    return type(_base(lm)).__name__


def _base(lm: Any) -> Any:
    """The model inside the wrappers of torch.compile and peft."""
    lm = getattr(lm, "_orig_mod", lm)
    return lm.get_base_model() if hasattr(lm, "get_base_model") else lm


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
        PrefixModelError: a float mask, and attention that takes no such addition; or padding, and
            a language model that can't be told where a padded row begins.
    """

    def __init__(self, lm: Any, context: Tensor, mask: Tensor | None = None) -> None:
        self._lm = lm
        self._embed = lm.get_input_embeddings()
        self._cache = DynamicCache(config=lm.config)
        self._options = last_logits(lm, 1)
        self._takes_positions = _takes(lm, "position_ids")
        self._length = 0
        self._mask = None if mask is None else (mask > 0).long()
        self._log_weights: Tensor | None = None
        if mask is not None:
            _check_takes_padding(lm, mask)
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

    def select(self, rows: Tensor) -> None:
        """Make row i what row rows[i] was: reorders, drops or repeats rows."""
        self._cache.reorder_cache(rows)
        if self._mask is not None:
            self._mask = self._mask[rows]
        if self._log_weights is not None:
            self._log_weights = self._log_weights[rows]

    def _forward(self, embeddings: Tensor) -> Tensor:
        self._length += embeddings.shape[1]
        with in_eval_mode(self._lm):
            output = self._lm(
                inputs_embeds=embeddings,
                past_key_values=self._cache,
                use_cache=True,
                **self._options,
                **self._places(*embeddings.shape[:2]),
            )
        logits: Tensor = output.logits[:, -1]
        # Probabilities of a large vocabulary need more than half precision; float64 stays.
        return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits

    def _places(self, rows: int, count: int) -> dict[str, Tensor]:
        """Say which positions are padding and where the last `count` ones stand.

        A forward does not derive positions from the mask; only transformers' `generate` does. Nor
        does every forward (Bamba) count what is in the cache.
        """
        if self._mask is None:
            start, device = self._length - count, self._embed.weight.device
            positions = torch.arange(start, self._length, device=device).expand(rows, -1)
            return {"position_ids": positions} if self._takes_positions else {}
        mask = self._mask if self._log_weights is None else self._added_scores(count)
        if not self._takes_positions:
            return {"attention_mask": mask}
        positions = (self._mask.cumsum(1) - 1).clamp(min=0)[:, -count:]
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


def _check_takes_padding(lm: Any, mask: Tensor) -> None:
    if _takes(lm, "position_ids") or _base(lm).config.model_type in _DISTANCES_ONLY:
        return
    counts = (mask > 0).sum(1)
    if int(counts.min()) < mask.shape[1]:
        raise PrefixModelError(
            f"expected contexts of equal length, since {_name(lm)}'s forward takes no "
            f"position_ids, found {int(counts.min())} to {mask.shape[1]} positions; write after "
            "those of another length in another call"
        )


def _check_takes_scores(lm: Any) -> None:
    kind = lm.config.get_text_config()._attn_implementation
    if kind not in ("sdpa", "eager"):
        raise PrefixModelError(
            f"expected a language model with attention sdpa or eager, which can weigh positions, "
            f"found {kind}; load it with attn_implementation='sdpa'"
        )
