"""Lightning training of a prefix model on (embedding, text) pairs."""

import math
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from prefix_models.clipcap import ClipCap
from training.pairs import Pairs, collate


class PrefixTrainer(L.LightningModule):
    """Cross-entropy of the texts given their embeddings.

    Args:
        model: what is trained, in place.
        steps: length of the cosine schedule.
        lr: peak learning rate of AdamW.
        warmup: steps of linear warm-up.
        mapper_only: leave the language model as it is.
        noise: standard deviation of Gaussian noise on the embeddings, as a fraction of their
            root-mean-square coordinate; keeps the mapper from leaning on single coordinates.
    """

    def __init__(
        self,
        model: ClipCap,
        steps: int,
        lr: float = 1e-3,
        warmup: int = 100,
        mapper_only: bool = False,
        noise: float = 0.0,
    ) -> None:
        super().__init__()
        self.model = model
        self.steps, self.lr, self.warmup, self.noise = steps, lr, warmup, noise
        self.mapper_only = mapper_only

    def training_step(self, batch: tuple[Tensor, list[str]], number: int) -> Tensor:
        """Loss of one batch."""
        embeddings, texts = batch
        if self.noise:
            scale = self.noise * embeddings.pow(2).mean(1, keepdim=True).sqrt()
            embeddings = embeddings + scale * torch.randn_like(embeddings)
        loss = self.model.loss(embeddings, texts)
        self.log("loss", loss, prog_bar=True, batch_size=len(texts))
        return loss

    def validation_step(self, batch: tuple[Tensor, list[str]], number: int) -> None:
        """Loss and share of captions that come out word for word."""
        embeddings, texts = batch
        captions = [g.text for g in self.model.generate(embeddings, max_new_tokens=48)]
        exact = sum(a == b for a, b in zip(captions, texts, strict=True)) / len(texts)
        loss = self.model.loss(embeddings, texts)
        self.log_dict({"val_loss": loss, "val_exact": exact}, batch_size=len(texts), prog_bar=True)

    def configure_optimizers(self) -> Any:
        """AdamW with linear warm-up and cosine decay."""
        trained = self.model.mapper if self.mapper_only else self.model
        optimizer = torch.optim.AdamW(trained.parameters(), lr=self.lr, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._lr_factor)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    def _lr_factor(self, step: int) -> float:
        cosine = (1 + math.cos(math.pi * step / self.steps)) / 2
        return min((step + 1) / self.warmup, cosine)


def loaders(
    train: Pairs, validation: Pairs, batch_size: int, seed: int
) -> tuple[DataLoader, DataLoader]:
    """Shuffled training batches and validation batches."""
    generator = torch.Generator().manual_seed(seed)
    return (
        DataLoader(
            train, batch_size, shuffle=True, collate_fn=collate, drop_last=True, generator=generator
        ),
        DataLoader(validation, batch_size, collate_fn=collate),
    )
