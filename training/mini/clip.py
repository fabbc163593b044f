"""Contrastive training of the mini CLIP on image-level captions: no masks, no region labels."""

import json
from pathlib import Path
from typing import Any, Literal

import torch
from open_clip import CLIP
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader

from regionlm.backbones.clip_vit import OPENAI_MEAN, OPENAI_STD
from regionlm.backbones.loading import WEIGHT_FILES
from regionlm.extras import extra
from training.mini.attention_start import attention_start
from training.mini.losses import sigmoid_loss, softmax_loss
from training.muon import MuonAdamW
from training.world.scene_batches import CaptionBatches, Stage

with extra("train"):
    import lightning as L


Head = Literal["mean", "attention"]
_CONFIGS: dict[Head, str] = {"mean": "clip.json", "attention": "siglip.json"}


def mini_clip_config(head: Head = "mean") -> dict[str, Any]:
    """The open_clip model config of the mini CLIP that pools so."""
    return json.loads((Path(__file__).parent / _CONFIGS[head]).read_text())


class CaptionData(L.LightningDataModule):
    """Scenes with captions, composed on the fly.

    Args:
        stages: what is shown, one stage after the other.
        seed: seed of the world.
    """

    def __init__(self, stages: list[Stage], seed: int = 1) -> None:
        super().__init__()
        self.stages, self.seed = stages, seed

    def train_dataloader(self) -> DataLoader:
        """Batches that one worker composes ahead; a resumed run continues with the next batch."""
        first = self.trainer.global_step if self.trainer is not None else 0
        batches = CaptionBatches(self.stages, self.seed, first)
        return DataLoader(batches, batch_size=None, num_workers=1, prefetch_factor=4)


class ContrastiveClipModule(L.LightningModule):
    """An open_clip model under a contrastive loss; equal captions are all positives.

    The loss is CLIP's, or SigLIP's for a model whose config has SigLIP's bias, as the one with the
    attention head has.

    Args:
        stages: as in `CaptionData`; their steps set the learning-rate schedule.
        lr: peak learning rate of Muon, which trains the matrices of all layers; a linear warm-up
            precedes it and a linear decay follows.
        adamw_lr: peak learning rate of AdamW, which trains all other weights.
        warmup: number of warm-up steps.
        decay: share of all steps in the final decay to zero.
        weight_decay: of the matrices.
        start: folder that `export` wrote, whose weights are trained further; None starts at random.
            One that pools the mean also starts the attention head.
        head: what pools the image: the mean of its patches, or attention.
    """

    def __init__(
        self,
        stages: list[Stage],
        lr: float = 3e-3,
        adamw_lr: float = 1.5e-3,
        warmup: int = 100,
        decay: float = 0.4,
        weight_decay: float = 0.05,
        start: Path | None = None,
        head: Head = "mean",
    ) -> None:
        super().__init__()
        self.lr, self.adamw_lr, self.weight_decay = lr, adamw_lr, weight_decay
        self.warmup, self.decay = warmup, decay
        self.total = sum(stage.steps for stage in stages)
        config = mini_clip_config(head)
        config["vision_cfg"]["patch_dropout"] = (
            0.5  # creates the layer; each stage sets its own share
        )
        self.clip = CLIP(**config)
        if start is not None:
            weights = load_file(start / WEIGHT_FILES[0])
            if weights.keys() != self.clip.state_dict().keys():
                weights = attention_start(weights, self.clip)
            self.clip.load_state_dict(weights)

    def training_step(self, batch: dict[str, Any], number: int) -> Tensor:
        """Contrastive loss of one batch."""
        pixels = normalise(batch["pixels"])
        texts = batch["texts"]
        length = texts.shape[1]
        # Texts are padded to the longest one of the batch, and a small canvas is a window on the
        # model's canvas. Both are done by substituting tensors for this call only.
        substitutes = {
            "positional_embedding": self.clip.positional_embedding[:length],
            "attn_mask": self.clip.attn_mask[:length, :length],
            "visual.positional_embedding": position_window(self.clip.visual, pixels.shape[-1]),
        }
        self.clip.visual.patch_dropout.prob = batch["patch_dropout"]
        # For so few tokens the plain form of attention is faster in bfloat16 than the fused one.
        with sdpa_kernel(SDPBackend.MATH):
            images, words, scale, *bias = functional_call(self.clip, substitutes, (pixels, texts))
        with torch.autocast(pixels.device.type, enabled=False):
            # [B, B + false captions]
            logits = scale.clamp(max=100.0) * images.float() @ words.float().T
        same = batch["same"]
        true = logits[:, : len(images)]
        loss = sigmoid_loss(logits + bias[0], same) if bias else softmax_loss(logits, same)
        top1 = same.gather(1, true.argmax(1, keepdim=True)).float().mean()
        # Share of an image's own false captions that fit it less well than the true one.
        false = logits[:, len(images) :].unflatten(1, (-1, len(images))).diagonal(0, 0, 2)
        beaten = (false < true.diag()).float().mean()
        self.log_dict({"loss": loss, "top1": top1, "beaten": beaten, "scale": scale}, prog_bar=True)
        return loss

    def configure_optimizers(self) -> Any:
        """Muon and AdamW; warm-up, constant, linear decay."""
        matrices: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for name, parameter in self.clip.named_parameters():
            inner = parameter.ndim == 2 and "embedding" not in name and "query" not in name
            (matrices if inner else others).append(parameter)
        optimizer = MuonAdamW(matrices, others, self.lr, self.adamw_lr, self.weight_decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._lr_factor)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    def _lr_factor(self, step: int) -> float:
        rise = (step + 1) / self.warmup
        fall = (self.total - step) / (self.decay * self.total)
        return min(1.0, rise, max(fall, 0.01))


def normalise(pixels: Tensor) -> Tensor:
    """Convert uint8 ``[B, 3, H, W]`` to the model's float32 input."""
    mean = torch.tensor(OPENAI_MEAN, device=pixels.device).view(1, 3, 1, 1)
    std = torch.tensor(OPENAI_STD, device=pixels.device).view(1, 3, 1, 1)
    return (pixels.float() / 255 - mean) / std


def position_window(visual: nn.Module, size: int) -> Tensor:
    """The positional embeddings of a random window of `size` pixels on the model's canvas."""
    rows, cols = visual.grid_size
    side = size // visual.patch_size[0]
    table = visual.positional_embedding
    if side == rows:
        return table
    grid = table[1:].view(rows, cols, -1)
    top, left = torch.randint(0, rows - side + 1, (2,)).tolist()
    window = grid[top : top + side, left : left + side].reshape(side * side, -1)
    return torch.cat([table[:1], window])
