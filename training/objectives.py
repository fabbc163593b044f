"""Losses: which tokens of a text count, and their mean cross-entropy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from prefix_models.base import PrefixModel
from prefix_models.clipcap.model import ClipCap
from prefix_models.errors import PrefixModelError


class Objective(Protocol):
    """A loss that is a mean over tokens."""

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Number of tokens of each text over which the loss averages."""

    def loss(self, embeddings: Tensor, texts: Sequence[str]) -> Tensor:
        """Mean cross-entropy of those tokens in nats; embeddings are ``[N, d]``."""


class CaptionLoss:
    """The prefix model's own loss, over each token of a text and its end token."""

    def __init__(self, model: PrefixModel) -> None:
        self.model = model

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """See Objective."""
        counts: list[int] = self.model.encode(texts)[1].sum(1).tolist()
        return counts

    def loss(self, embeddings: Tensor, texts: Sequence[str]) -> Tensor:
        """See Objective."""
        return self.model.loss(embeddings, texts)


class OriginalClipCapLoss:
    """The loss of CLIPCap's published training code (Mokady et al. 2021), for reproduction.

    It pads with token 0, and ignores that token anywhere in a text. In GPT-2 this is "!", so the
    model never learns to write it. There is no end token; texts are cut at `max_tokens`.

    Args:
        model: a ClipCap with stop "period".
        max_tokens: see `original_max_tokens`.

    Raises:
        PrefixModelError: the model is of another kind, or has end tokens.
    """

    def __init__(self, model: PrefixModel, max_tokens: int) -> None:
        if not isinstance(model, ClipCap) or model.config.stop != "period" or model.config.prompt:
            raise PrefixModelError(
                "recipe.clipcap_original: expected a ClipCap with stop 'period' and no prompt, as"
                f" the original is; found a {type(model).__name__} with {model.config}"
            )
        self.model, self.max_tokens = model, max_tokens

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """See Objective."""
        return [int(row.count_nonzero()) for row in self._rows(texts)]

    def loss(self, embeddings: Tensor, texts: Sequence[str]) -> Tensor:
        """See Objective."""
        tokens = pad_sequence(self._rows(texts), batch_first=True).to(self.model.device)
        prefix = self.model.context(embeddings)
        words = self.model.lm.get_input_embeddings()(tokens)
        # The original masks its padding; it follows the text, so that changes no score that counts.
        logits = self.model.lm(inputs_embeds=torch.cat((prefix, words), dim=1)).logits
        scores = logits[:, prefix.shape[1] - 1 : -1].flatten(0, 1).float()
        if not tokens.any():  # the mean over no token is NaN
            return scores.sum() * 0.0
        return F.cross_entropy(scores, tokens.flatten(), ignore_index=0)

    def _rows(self, texts: Sequence[str]) -> list[Tensor]:
        rows = self.model.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        return [torch.tensor(row[: self.max_tokens], dtype=torch.long) for row in rows]


def original_max_tokens(model: PrefixModel, texts: Iterable[str]) -> int:
    """Where the original cuts texts, ten standard deviations above the mean, in tokens."""
    rows = model.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    lengths = torch.tensor([len(row) for row in rows]).float()
    if len(lengths) < 2:
        return int(lengths.sum())
    return min(int(lengths.mean() + lengths.std() * 10), int(lengths.max()))
