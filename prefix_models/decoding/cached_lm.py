"""A causal language model run step by step with its cache."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from prefix_models.errors import PrefixModelError
from prefix_models.lm.calling import call, calling_of, display_name, reads_padding, weighs_positions


class CachedLM:
    """A batch of unfinished texts in a Hugging Face causal language model.

    Args:
        lm: any causal model that takes `inputs_embeds` and has a cache. It is not changed.
        context: [N, C, hidden], the vectors before the text.
        mask: bool [N, C] for rows of unequal length: False where a shorter row is padded, on the
            left. None if all rows have C positions, as always in ClipCap. Or float in [0, 1]: 0
            where padded, otherwise the weight of a position. Every attention treats a position of
            weight w like w positions with the same key and value: log w is added to its scores, in
            all heads and layers.

    `logits` are the scores [N, vocabulary] of the next token after the context.

    Raises:
        PrefixModelError: the mask is float, but the model's attention takes no additive mask; or
            rows are padded, but the model can't be told where a padded row begins.
    """

    def __init__(self, lm: Any, context: Tensor, mask: Tensor | None = None) -> None:
        self._lm = lm
        self._calling = calling_of(lm)
        self._embed = lm.get_input_embeddings()
        self._cache: Any = None
        self._read = context[:, :0]  # read again at every step by a model without a cache
        self._length = 0
        self._mask = None if mask is None else (mask > 0).long()
        self._log_weights: Tensor | None = None
        if mask is not None:
            _check_reads_padding(lm, mask)
        if mask is not None and mask.is_floating_point():
            _check_weighs_positions(lm)
            self._log_weights = mask.log()
        self.logits = self._forward(context)

    def feed(self, tokens: Tensor) -> Tensor:
        """Append one token per row, [N]; return the scores [N, vocabulary] of the next one."""
        if self._mask is not None:
            self._mask = F.pad(self._mask, (0, 1), value=1)
        if self._log_weights is not None:
            self._log_weights = F.pad(self._log_weights, (0, 1))
        return self._forward(self._embed(tokens)[:, None])

    def reorder(self, rows: Tensor) -> None:
        """Make row i the former row rows[i]: reorder, drop or repeat rows."""
        if self._cache is None:
            self._read = self._read[rows]
        else:
            self._cache.reorder_cache(rows)
        if self._mask is not None:
            self._mask = self._mask[rows]
        if self._log_weights is not None:
            self._log_weights = self._log_weights[rows]

    def _forward(self, embeddings: Tensor) -> Tensor:
        self._length += embeddings.shape[1]
        if self._calling.cache is None:
            embeddings = self._read = torch.cat((self._read, embeddings), 1)
        logits, self._cache = call(
            self._lm,
            self._calling,
            embeddings,
            self._cache,
            **self._places(*embeddings.shape[:2]),
        )
        # Half precision is too little for the probabilities of a large vocabulary; float64 stays.
        return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits

    def _places(self, rows: int, count: int) -> dict[str, Tensor]:
        """The forward's mask, and the position ids of the last `count` positions.

        Only transformers' `generate` derives positions from the mask, a model's forward does not.
        Nor does every forward (Bamba) count the positions in its cache.
        """
        if self._mask is None:
            start, device = self._length - count, self._embed.weight.device
            positions = torch.arange(start, self._length, device=device).expand(rows, -1)
            return {"position_ids": positions} if self._calling.takes_positions else {}
        mask = self._mask if self._log_weights is None else self._added_scores(count)
        if not self._calling.takes_positions:
            return {"attention_mask": mask}
        positions = (self._mask.cumsum(1) - 1).clamp(min=0)[:, -count:]
        return {"attention_mask": mask, "position_ids": positions}

    def _added_scores(self, count: int) -> Tensor:
        """The additive mask [N, 1, count, positions] of the last `count` positions."""
        assert self._log_weights is not None
        dtype = self._embed.weight.dtype
        lowest = torch.finfo(dtype).min  # not -inf, which would give NaN in rows of padding
        length = self._log_weights.shape[1]
        ahead = torch.ones(count, length, dtype=torch.bool, device=self._log_weights.device)
        ahead = ahead.triu(length - count + 1)
        added = self._log_weights.clamp(min=lowest)[:, None, None, :].to(dtype)
        return added.masked_fill(ahead, lowest)


def _check_reads_padding(lm: Any, mask: Tensor) -> None:
    counts = (mask > 0).sum(1)
    if int(counts.min()) < mask.shape[1] and not reads_padding(lm):
        raise PrefixModelError(
            f"expected contexts of equal length, since {display_name(lm)} can't be told where a"
            f" padded one begins, found {int(counts.min())} to {mask.shape[1]} positions; call once"
            " for each length"
        )


def _check_weighs_positions(lm: Any) -> None:
    if not weighs_positions(lm):
        raise PrefixModelError(
            f"expected a language model with attention sdpa or eager, which can weigh positions, "
            f"found {display_name(lm)} with another; load it with attn_implementation='sdpa'"
        )
