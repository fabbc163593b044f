"""The published ClipCap code, run as it is, on the weights of one of our models."""

import ast
from enum import Enum
from pathlib import Path
from typing import Any, Optional

import numpy as np
import torch
import torch.nn.functional as nnf
from clipcap_cases import PERIOD, Case
from torch import nn
from transformers import GPT2LMHeadModel

from prefix_models.clipcap.model import ClipCap
from prefix_models.clipcap.original import original_state_dict

_FROM_PREDICT = {"generate2", "generate_beam", "ClipCaptionModel", "MLP"}
_FROM_TRAIN = {
    "MappingType", "ClipCaptionModel", "MLP", "TransformerMapper", "Transformer",
    "TransformerLayer", "MultiHeadAttention", "MlpTransformer",
}  # fmt: skip


class Checkout:
    """Definitions out of a clone: nothing else of its files (CLIP, cog, data) is executed."""

    def __init__(self, folder: Path) -> None:
        self.predict = _definitions(folder / "predict.py", _FROM_PREDICT)
        self.train = _definitions(folder / "train.py", _FROM_TRAIN)


def _definitions(file: Path, wanted: set[str]) -> dict[str, Any]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if getattr(node, "name", None) in wanted]
    # What the file's imports and type aliases would have provided.
    names: dict[str, Any] = {
        "nn": nn, "nnf": nnf, "np": np, "torch": torch, "Optional": Optional, "Enum": Enum,
        "Tuple": tuple, "T": torch.Tensor, "D": torch.device,
    }  # fmt: skip
    exec(compile(tree, str(file), "exec"), names)
    return names


class _NumberTokenizer:
    """The two methods the published functions call; text is ids with spaces."""

    def encode(self, text: str) -> list[int]:
        return [PERIOD]

    def decode(self, ids: Any) -> str:
        return " ".join(str(int(i)) for i in ids)


class Published:
    """The published model with the weights of ours, loaded strictly from our export."""

    def __init__(self, checkout: Checkout, model: ClipCap) -> None:
        class Factory:  # stands where the files load "gpt2" from the hub
            from_pretrained = staticmethod(lambda name: GPT2LMHeadModel(model.lm.config))

        self.functions, config = checkout.predict, model.config
        if config.mapper == "linear":  # train.py has none
            checkout.predict["GPT2LMHeadModel"] = Factory
            build = checkout.predict["ClipCaptionModel"]
            self.model = build(config.prefix_length, prefix_size=config.embedding_dim)
        else:
            checkout.train["GPT2LMHeadModel"] = Factory
            self.model = checkout.train["ClipCaptionModel"](
                config.prefix_length,
                clip_length=config.clip_length,
                prefix_size=config.embedding_dim,
                num_layers=config.mapper_layers,
                mapping_type=checkout.train["MappingType"](config.mapper),
            )
        self.model.eval().to(model.lm.dtype)
        self.model.load_state_dict(original_state_dict(model), strict=True)
        self.normalize = config.normalize_input

    def read(self, embedding: torch.Tensor) -> torch.Tensor:
        """Prepare one embedding [d] as the notebook of its mapper does: raw, or over its norm."""
        return embedding / embedding.norm(2, -1).item() if self.normalize else embedding

    @torch.no_grad()
    def prefix(self, embedding: torch.Tensor) -> torch.Tensor:
        """Map one embedding [d] to [1, P, hidden]."""
        prefix = self.model.clip_project(self.read(embedding)[None])
        return prefix.reshape(1, self.model.prefix_length, -1)

    @torch.no_grad()
    def logits(self, embeddings: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """As `our_logits`, row by row."""
        rows = [
            self.model(row_ids[None], self.read(row)[None]).logits[0]
            for row, row_ids in zip(embeddings, ids, strict=True)
        ]
        return torch.stack(rows)[:, self.model.prefix_length - 1 :]

    def tokens(self, embeddings: torch.Tensor, case: Case) -> tuple[list[Any], list[list[Any]]]:
        """As `our_tokens`, row by row."""
        return (
            [self.greedy(row, case.max_new_tokens) for row in embeddings],
            [self.beam(row, case) for row in embeddings],
        )

    def greedy(self, embedding: torch.Tensor, limit: int) -> list[int]:
        """Return generate2's tokens for one embedding [d]."""
        try:
            text = self.functions["generate2"](
                self.model, _NumberTokenizer(), embed=self.prefix(embedding), entry_length=limit
            )
        except TypeError:  # published bug: a text of one token cannot be made a list
            logits = self.model.gpt(inputs_embeds=self.prefix(embedding)).logits[0, -1]
            return [int(logits.argmax())]
        return [int(i) for i in text.split()]

    def beam(self, embedding: torch.Tensor, case: Case) -> list[list[int]]:
        """Return all of generate_beam's hypotheses for one embedding [d], best first."""
        texts = self.functions["generate_beam"](
            self.model,
            _NumberTokenizer(),
            beam_size=case.beam_size,
            embed=self.prefix(embedding),
            entry_length=case.max_new_tokens,
            temperature=case.temperature,
        )
        return [[int(i) for i in text.split()] for text in texts]

    @torch.no_grad()
    def loss(self, embeddings: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor) -> float:
        """Loss as its train.py computes it: position 0 of the logits is the prefix's last."""
        length = self.model.prefix_length
        prefix = torch.stack([self.read(row) for row in embeddings])
        attention = torch.cat((torch.ones(len(ids), length), mask.float()), 1)
        logits = self.model(ids, prefix, attention).logits[:, length - 1 : -1]
        return float(nnf.cross_entropy(logits.flatten(0, 1), ids.flatten(), ignore_index=0))
