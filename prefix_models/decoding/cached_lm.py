"""A causal language model read step by step, with its key-value cache."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache


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


class CachedLM:
    """The state of a batch of unfinished texts in a Hugging Face causal language model.

    Args:
        lm: any causal model that takes `inputs_embeds` and a `DynamicCache`. It is not changed.
        context: [N, C, hidden], what stands before the text, of one length for the whole batch.

    `logits` holds the scores [N, vocabulary] of the next token after the context.
    """

    def __init__(self, lm: Any, context: Tensor) -> None:
        self._lm = lm
        self._embed = lm.get_input_embeddings()
        self._cache = DynamicCache(config=lm.config)
        # Only the last position is needed; not every model can be told so.
        parameters = inspect.signature(lm.forward).parameters
        self._options = {"logits_to_keep": 1} if "logits_to_keep" in parameters else {}
        self.logits = self._forward(context)

    def feed(self, tokens: Tensor) -> Tensor:
        """Append one token a row, [N]; return the scores [N, vocabulary] of the one after it."""
        return self._forward(self._embed(tokens)[:, None])

    def repeat(self, times: int) -> None:
        """Make each row `times` rows, side by side."""
        self._cache.batch_repeat_interleave(times)

    def select(self, rows: Tensor) -> None:
        """Make row i what row rows[i] was: reorders, drops or repeats rows."""
        self._cache.reorder_cache(rows)

    def _forward(self, embeddings: Tensor) -> Tensor:
        with in_eval_mode(self._lm):
            output = self._lm(
                inputs_embeds=embeddings,
                past_key_values=self._cache,
                use_cache=True,
                **self._options,
            )
        logits: Tensor = output.logits[:, -1]
        # Probabilities of a large vocabulary need more than half precision; float64 stays.
        return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
