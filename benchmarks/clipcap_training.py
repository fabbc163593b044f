"""Does `recipe.clipcap_original` train as the published ClipCap code does?

Runs `train` and `ClipCocoDataset` of a clone as they are, and ours, from the same tiny random
weights on the same captions in the same order, without dropout; prints both losses and how far the
weights are apart in the end. AdamW is that of transformers 4.12, which the clone asks for; later
versions have none.

    git clone https://github.com/rmokady/CLIP_prefix_caption
    pip download transformers==4.12.5 --no-deps && unzip transformers-4.12.5-*.whl -d old
    python benchmarks/clipcap_training.py CLIP_prefix_caption old/transformers/optimization.py
"""

import argparse
import ast
import contextlib
import copy
import io
import math
import os
import pickle
import sys
from enum import Enum
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import GPT2Config, GPT2LMHeadModel

from prefix_models import ClipCap, ClipCapConfig, original_state_dict, word_tokenizer
from training.curve import read_curve
from training.fit import fit_pairs
from training.fit_settings import Recipe
from training.step_batches import ORDER, random_numbers
from training.training_folder import TrainingFolder

WORDS = [*"abcdefghijklmnop", "."]
DIM, PREFIX, PAIRS, BATCH, EPOCHS = 12, 3, 22, 5, 6
LR, WARMUP = 5e-3, 6  # a thousand times shorter than COCO's, so that weights move as far


def our_model(mapper: str) -> ClipCap:
    """A tiny ClipCap without dropout; token 0, "<pad>", stands for GPT-2's "!"."""
    torch.manual_seed(0)
    tokenizer = word_tokenizer(WORDS)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=40, n_embd=64, n_layer=2, n_head=1,
        embd_pdrop=0.0, resid_pdrop=0.0, attn_pdrop=0.0, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    sizes = {"clip_length": 2, "mapper_layers": 2} if mapper == "transformer" else {}
    settings = ClipCapConfig(DIM, PREFIX, mapper, stop="period", **sizes)
    return ClipCap(GPT2LMHeadModel(config), tokenizer, settings)


def captions() -> list[tuple[torch.Tensor, str]]:
    """Captions of 1 to 12 tokens, some with token 0."""
    rng = random_numbers(5)
    pairs = []
    for _ in range(PAIRS):
        words = rng.choice([*WORDS, "<pad>"], size=int(rng.integers(1, 12)))
        pairs.append((torch.from_numpy(rng.standard_normal(DIM)).float(), " ".join([*words, "."])))
    return pairs


def published(clone: Path, optimization: Path, model: ClipCap, folder: Path) -> tuple[Any, Any]:
    """Losses and state dict of the published code."""
    names: dict[str, Any] = {"math": math, "torch": torch, "nn": nn, "Optimizer": Optimizer}
    names |= {"LambdaLR": LambdaLR, "Callable": Any, "Iterable": Any, "Tuple": tuple}
    names |= {"require_version": lambda *_: None}
    _define(optimization, {"AdamW", "get_linear_schedule_with_warmup"}, names)
    losses: list[float] = []
    tokenizer = SimpleNamespace(
        encode=lambda text: model.tokenizer(text, add_special_tokens=False)["input_ids"]
    )
    bar = SimpleNamespace(
        set_postfix=lambda values: losses.append(values["loss"]),
        update=lambda: None,
        close=lambda: None,
    )
    names |= {
        "nnf": nnf, "os": os, "sys": sys, "pickle": pickle, "argparse": argparse,
        "Dataset": torch.utils.data.Dataset, "DataLoader": _InOurOrder, "tqdm": lambda **_: bar,
        "GPT2Tokenizer": SimpleNamespace(from_pretrained=lambda _: tokenizer),
        "GPT2LMHeadModel": SimpleNamespace(
            from_pretrained=lambda _: GPT2LMHeadModel(model.lm.config)
        ),
    }  # fmt: skip
    names |= {"Enum": Enum}
    wanted = {
        "MappingType", "ClipCocoDataset", "MLP", "MlpTransformer", "MultiHeadAttention",
        "TransformerLayer", "Transformer", "TransformerMapper", "ClipCaptionModel", "train",
    }  # fmt: skip
    _define(clone / "train.py", wanted, names)
    pairs = captions()
    data = {
        "clip_embedding": torch.stack([embedding for embedding, _ in pairs]),
        "captions": [
            {"image_id": i, "caption": text, "clip_embedding": i}
            for i, (_, text) in enumerate(pairs)
        ],
    }
    (folder / "data.pkl").write_bytes(pickle.dumps(data))
    kind, config = names["MappingType"](model.config.mapper), model.config
    theirs = names["ClipCaptionModel"](
        PREFIX, clip_length=config.clip_length, prefix_size=DIM,
        num_layers=config.mapper_layers, mapping_type=kind,
    )  # fmt: skip
    theirs.load_state_dict(original_state_dict(model), strict=True)
    args = SimpleNamespace(bs=BATCH, epochs=EPOCHS, save_every=1)
    with contextlib.redirect_stdout(io.StringIO()):
        dataset = names["ClipCocoDataset"](str(folder / "data.pkl"), PREFIX)
        names["train"](dataset, theirs, args, LR, WARMUP, str(folder / "checkpoints"))
    return losses, theirs.state_dict()


class _InOurOrder:
    """Stands for its shuffled DataLoader: the order of our seed, the last rows dropped as there."""

    def __init__(self, dataset: Any, batch_size: int, **options: bool) -> None:
        assert options == {"shuffle": True, "drop_last": True}
        self.dataset, self.batch_size, self.epoch = dataset, batch_size, 0

    def __len__(self) -> int:
        return len(self.dataset) // self.batch_size

    def __iter__(self) -> Any:
        order = random_numbers(Recipe().seed, ORDER, self.epoch).permutation(len(self.dataset))
        self.epoch += 1
        for i in range(len(self)):
            rows = order[i * self.batch_size : (i + 1) * self.batch_size]
            yield tuple(map(torch.stack, zip(*(self.dataset[int(r)] for r in rows), strict=True)))


def _define(file: Path, wanted: set[str], names: dict[str, Any]) -> None:
    """Execute these definitions of a file and nothing else of it; on the CPU."""
    text = file.read_text(encoding="utf-8").replace("cuda:0", "cpu")
    tree = ast.parse("from __future__ import annotations\n" + text)
    tree.body = [
        node
        for node in tree.body
        if getattr(node, "name", None) in wanted or getattr(node, "module", "") == "__future__"
    ]
    exec(compile(tree, str(file), "exec"), names)


def ours(model: ClipCap, folder: Path) -> list[float]:
    """Losses of our trainer, which trains `model` in place."""
    recipe = Recipe(
        trains="all", epochs=EPOCHS, batch_size=BATCH, lr=LR, warmup=WARMUP, schedule="linear",
        weight_decay=0.0, clipcap_original=True,
    )  # fmt: skip
    options = {"accelerator": "cpu", "log_every_n_steps": 1, "enable_progress_bar": False}
    run = TrainingFolder(folder / "ours", {})
    fit_pairs(model, recipe, captions(), None, run, options)
    return [row["loss"] for row in read_curve(run.curve)]


def main() -> None:
    """Print a line for each mapper; exit code 1 where they differ."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("clone", type=Path, help="of github.com/rmokady/CLIP_prefix_caption")
    parser.add_argument("optimization", type=Path, help="optimization.py of transformers 4")
    args = parser.parse_args()
    good = True
    for mapper in ("mlp", "transformer"):
        model = our_model(mapper)
        with TemporaryDirectory() as scratch:
            losses, state = published(
                args.clone, args.optimization, copy.deepcopy(model), Path(scratch)
            )
            found = ours(model, Path(scratch))
        apart = max(abs(a - b) for a, b in zip(losses, found, strict=True))
        weights = original_state_dict(model)
        gap = max(float((weights[name] - state[name]).abs().max()) for name in weights)
        print(
            f"{mapper}: {len(losses)} steps, loss {losses[0]:.4f} -> {losses[-1]:.4f} published,"
            f" {found[0]:.4f} -> {found[-1]:.4f} ours; losses differ by at most {apart:.1e},"
            f" weights by {gap:.1e}"
        )
        good = good and apart < 1e-4 and gap < 1e-3
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
