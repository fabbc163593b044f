"""The decoder of `mini`: a ClipCap with a tiny GPT-2, whose mapper is then adapted to LETs."""

from pathlib import Path
from typing import Any

from transformers import GPT2Config, GPT2LMHeadModel

from prefix_models.clipcap.config import ClipCapConfig
from prefix_models.clipcap.model import ClipCap
from prefix_models.lm.word_tokenizer import word_tokenizer
from regionlm.backbones.loading import load_backbone
from regionlm.extras import extra
from training.embeddings import Shards
from training.fit import fit_pairs
from training.fit_settings import Recipe
from training.mini.scene_pairs import PairSource, image_pairs, region_pairs
from training.training_folder import TrainingFolder
from training.world.names import words

with extra("train"):
    import lightning as L


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
    recipe: Recipe,
    runs: Path = Path("runs"),
) -> None:
    """Train mapper and GPT-2 on captions of whole images, embedded by the frozen CLIP.

    Args:
        backbone: folder that `export` wrote.
        output: ClipCap folder to write.
        pairs: scenes to train on; the last shard validates.
        size: input size of the CLIP in pixels.
        recipe: how to train.
        runs: folder for logs, checkpoints and embeddings.
    """
    L.seed_everything(recipe.seed)
    clip = load_backbone(str(backbone), device="cpu")
    data = image_pairs(clip, pairs, size, runs / "embeddings")
    model = tiny_clipcap(clip.dim, clip.name)
    _fit(model, recipe, data, runs / "mini_decoder", {"size": size})
    model.save_pretrained(output)


def adapt_decoder(
    backbone: Path,
    decoder: Path,
    output: Path,
    pairs: PairSource,
    inversion: dict[str, Any],
    recipe: Recipe,
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
        recipe: how to train.
        runs: folder for logs, checkpoints and embeddings.
    """
    clip = load_backbone(str(backbone), device="cpu")
    data = region_pairs(clip, inversion, pairs, runs / "embeddings")
    model = ClipCap.from_pretrained(decoder).add_prefix(ADAPTED)
    _fit(model, recipe, data, runs / "mini_adapt", {"inversion": inversion})
    model.save_pretrained(output)


def _fit(
    model: ClipCap,
    recipe: Recipe,
    pairs: tuple[Shards, Shards],
    folder: Path,
    data: dict[str, Any],
) -> None:
    """Train, starting from the last checkpoint if there is one."""
    train, validation = pairs
    deciding = {name: value for name, value in vars(recipe).items() if name != "checkpoint_minutes"}
    settings = {"recipe": deciding, "pairs": len(train), **data}
    options = {"accelerator": "cpu", "gradient_clip_val": 1.0, "enable_progress_bar": False}
    fit_pairs(model, recipe, train, validation, TrainingFolder(folder, settings), options)
