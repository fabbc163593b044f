"""The decoder of `mini`: a tiny GPT-2 behind a ClipCap mapper, then the mapper adapted to LETs."""

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from transformers import GPT2Config, GPT2LMHeadModel

from prefix_models.clipcap import ClipCap
from prefix_models.config import ClipCapConfig
from prefix_models.words import word_tokenizer
from regionlm.backbones.loading import load_backbone
from regionlm.embedders.maskinversion import MaskInversion
from training.mini.pairs import PairSource, image_pairs, region_pairs
from training.pairs import Pairs
from training.prefix import PrefixTrainer, loaders
from training.world.names import words

ZERO_SHOT, ADAPTED = "zero-shot", "adapted"


def tiny_clipcap(embedding_dim: int, encoder: str) -> ClipCap:
    """An untrained GPT-2 of two layers over the world's words, behind an MLP mapper."""
    tokenizer = word_tokenizer(words())
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=64, n_embd=128, n_layer=2, n_head=4,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        bos_token_id=tokenizer.eos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    settings = ClipCapConfig(embedding_dim, prefix_length=8, mapper_width=512, encoder=encoder)
    return ClipCap(GPT2LMHeadModel(config), tokenizer, settings, prefix=ZERO_SHOT)


def train_decoder(
    backbone: Path,
    output: Path,
    pairs: PairSource,
    size: int,
    steps: int = 3000,
    batch_size: int = 256,
    lr: float = 2e-3,
    noise: float = 0.05,
    seed: int = 1,
    runs: Path = Path("runs"),
) -> None:
    """Train mapper and GPT-2 on whole images and their captions, through the frozen CLIP.

    Args:
        backbone: folder that `export` wrote.
        output: ClipCap folder to write.
        pairs: scenes to train on; the last shard validates.
        size: input size of the CLIP in pixels.
        steps: optimiser steps.
        batch_size: pairs in a batch.
        lr: peak learning rate.
        noise: see PrefixTrainer.
        seed: of initialisation and shuffling.
        runs: folder for logs, checkpoints and embeddings.
    """
    L.seed_everything(seed)
    clip = load_backbone(str(backbone), device="cpu")
    data = image_pairs(clip, pairs, size, runs / "pairs")
    model = tiny_clipcap(clip.dim, clip.name)
    trainer = PrefixTrainer(model, steps, lr, noise=noise)
    _fit(trainer, data, batch_size, seed, runs / "mini_decoder")
    model.eval().save_pretrained(output)


def adapt_decoder(
    backbone: Path,
    decoder: Path,
    output: Path,
    pairs: PairSource,
    inversion: dict[str, Any],
    steps: int = 3000,
    batch_size: int = 256,
    lr: float = 1e-3,
    noise: float = 0.05,
    seed: int = 1,
    runs: Path = Path("runs"),
) -> None:
    """Fine-tune a copy of the mapper on LETs of training scenes with their region phrases.

    The language model stays as `train_decoder` left it.

    Args:
        backbone: folder that `export` wrote.
        decoder: ClipCap folder that `train_decoder` wrote.
        output: ClipCap folder to write, with both prefixes; the adapted one is its default.
        pairs: scenes to train on; the last shard validates.
        inversion: MaskInversion's options: steps, lr, alpha, size.
        steps: optimiser steps.
        batch_size: pairs in a batch.
        lr: peak learning rate.
        noise: see PrefixTrainer.
        seed: of shuffling.
        runs: folder for logs, checkpoints and embeddings.
    """
    L.seed_everything(seed)
    clip = load_backbone(str(backbone), device="cpu")
    data = region_pairs(MaskInversion(clip, **inversion), pairs, runs / "pairs")
    model = ClipCap.from_pretrained(decoder).add_prefix(ADAPTED)
    trainer = PrefixTrainer(model, steps, lr, mapper_only=True, noise=noise)
    _fit(trainer, data, batch_size, seed, runs / "mini_adapt")
    model.eval().save_pretrained(output)


def _fit(
    module: PrefixTrainer, shards: list[Pairs], batch_size: int, seed: int, folder: Path
) -> None:
    """Train on all shards but the last, from the last checkpoint if there is one."""
    train, validation = Pairs.concatenate(shards[:-1]), shards[-1]
    checkpoints = ModelCheckpoint(
        folder, save_last=True, save_top_k=0, every_n_train_steps=500,
        save_on_train_epoch_end=False, enable_version_counter=False,
    )  # fmt: skip
    trainer = L.Trainer(
        accelerator="cpu", max_steps=module.steps, gradient_clip_val=1.0, callbacks=[checkpoints],
        logger=CSVLogger(folder), log_every_n_steps=50, val_check_interval=min(500, module.steps),
        check_val_every_n_epoch=None, enable_progress_bar=False, num_sanity_val_steps=0,
    )  # fmt: skip
    last = folder / "last.ckpt"
    trainer.fit(
        module, *loaders(train, validation, batch_size, seed),
        ckpt_path=str(last) if last.exists() else None, weights_only=True,
    )  # fmt: skip
