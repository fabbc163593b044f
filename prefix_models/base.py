"""The interface of every prefix model, on which training, bundles and captioners rely."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from prefix_models.decoding.options import Stop
from prefix_models.errors import PrefixModelError
from prefix_models.generation import PrefixGenerator
from prefix_models.lm.adapters import check_adapters
from prefix_models.lm.calling import last_scores

_NO_TARGET = -100  # ignored by cross_entropy


class PrefixModelConfig(Protocol):
    """Settings that every prefix model has; saved with its weights."""

    @property
    def embedding_dim(self) -> int:
        """Width d of the input embeddings."""

    @property
    def encoder(self) -> str:
        """Name of the encoder it was trained on; empty if unknown."""

    @property
    def prompt(self) -> str:
        """Text that precedes each caption, together with the embedding."""


class PrefixModel(PrefixGenerator, ABC):
    """Embeddings [M, d] -> M texts, and the loss that teaches it; see PrefixGenerator.

    Raises:
        PrefixModelError: as PrefixGenerator; also if the language model has adapters that can't be
            saved, see `prefix_models.lm.adapters`.
    """

    config: PrefixModelConfig

    def __init__(self, lm: Any, tokenizer: Any, stop: Stop) -> None:
        check_adapters(lm)  # better refused now than after training
        super().__init__(lm, tokenizer, stop)

    @property
    @abstractmethod
    def mapper(self) -> nn.Module:
        """The trainable map from embeddings [M, d] to prefix vectors [M, P, hidden]."""

    @abstractmethod
    def scale_input(self, embeddings: Tensor) -> Tensor:
        """Scale embeddings [M, d] to the norm that the mapper was trained on."""

    @abstractmethod
    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model to a folder, completely or not at all."""

    def prefix(self, embeddings: Tensor) -> Tensor:
        """Map embeddings [M, d], any float dtype and device, to prefix vectors [M, P, hidden].

        Raises:
            PrefixModelError: another shape, not floating-point, or not finite.
        """
        self._check(embeddings)
        parameter = next(self.mapper.parameters())
        embeddings = embeddings.to(parameter.device, parameter.dtype)
        prefix: Tensor = self.mapper(self.scale_input(embeddings))
        return prefix

    @property
    def text_room(self) -> int:
        """Maximum number of tokens of a training text, without its end token."""
        return self.room - (self._stop == "eos")

    def encode(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Tokenize texts as in training: ids and mask [M, T], right-padded, on the model's device.

        With stop "eos" an end token is appended; with "period" the texts should end in ".".

        Raises:
            PrefixModelError: a text has no tokens or is too long for the language model.
        """
        rows = [torch.tensor(row) for row in self._token_rows(texts, [self.room] * len(texts))]
        mask = pad_sequence([torch.ones_like(row).bool() for row in rows], batch_first=True)
        return pad_sequence(rows, batch_first=True).to(self.device), mask.to(self.device)

    def loss(self, embeddings: Tensor, texts: Sequence[str]) -> Tensor:
        """Return the mean cross-entropy (nats) over all tokens of the texts, end tokens included.

        Prefix, prompt and padding are not predicted. Gradients reach the mapper and, where its
        parameters require them, the language model.

        Args:
            embeddings: [M, d].
            texts: M texts.

        Raises:
            PrefixModelError: the numbers of embeddings and texts differ, embeddings have the wrong
                shape, or a text does not fit.
        """
        context = self.context(embeddings)
        if len(texts) != len(context):
            raise PrefixModelError(
                f"expected one text for each of {len(context)} embeddings, found {len(texts)} texts"
            )
        return self._loss_after(list(context), texts)

    def _loss_after(self, contexts: Sequence[Tensor], texts: Sequence[str]) -> Tensor:
        """Loss of each text after its own context [C_i, hidden]."""
        rows = self._token_rows(texts, [self.positions - len(context) for context in contexts])
        lengths = [len(row) for row in rows]
        ids = torch.tensor([token for row in rows for token in row], device=self.device)
        words = self.lm.get_input_embeddings()(ids).split(lengths)
        inputs = [torch.cat(pair) for pair in zip(contexts, words, strict=True)]
        targets = [
            torch.cat((ids.new_full((len(context),), _NO_TARGET), row))
            for context, row in zip(contexts, ids.split(lengths), strict=True)
        ]
        attention = [torch.ones_like(row) for row in targets]
        # The logits that predict text: from the last context position to the one before the last.
        first = min(map(len, contexts))
        count = max(map(len, inputs)) - first + 1
        logits = last_scores(
            self.lm,
            pad_sequence(inputs, batch_first=True),
            pad_sequence(attention, batch_first=True),
            count,
        )[:, :-1]
        wanted = pad_sequence(targets, batch_first=True, padding_value=_NO_TARGET)[:, first:]
        return F.cross_entropy(logits.flatten(0, 1).float(), wanted.flatten())

    def _token_rows(self, texts: Sequence[str], rooms: Sequence[int]) -> list[list[int]]:
        """Token ids of each text with its end token; each must fit into its room."""
        if isinstance(texts, str):
            raise PrefixModelError("expected a list of texts, one for each embedding, found a text")
        if not len(texts):
            raise PrefixModelError("expected at least one text, found none")
        end = [self.stop_id] if self._stop == "eos" else []
        tokenized = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        rows: list[list[int]] = [ids + end for ids in tokenized]
        for text, ids, room in zip(texts, rows, rooms, strict=True):
            if not len(end) < len(ids) <= room:
                raise PrefixModelError(
                    f"expected a text of 1 to {room - len(end)} tokens, found {len(ids) - len(end)}"
                    f" in {text[:60]!r}"
                )
        return rows

    def _check(self, embeddings: Tensor) -> None:
        wanted, encoder = self.config.embedding_dim, self.config.encoder
        if (
            not isinstance(embeddings, Tensor)
            or embeddings.dim() != 2
            or embeddings.shape[1] != wanted
            or not embeddings.is_floating_point()
        ):
            raise PrefixModelError(
                f"expected a float tensor of embeddings [M, {wanted}]"
                f"{f' of {encoder}' if encoder else ''}, found {_describe(embeddings)}"
            )
        bad = (~embeddings.isfinite().all(1)).nonzero()[:, 0].tolist()
        if bad:
            raise PrefixModelError(f"embeddings must be finite; NaN or infinity in rows {bad[:10]}")


def _describe(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype} {list(value.shape)}"
    return type(value).__name__
