"""The trained mini CLIP as a folder in open_clip's own format."""

import json
import shutil
from pathlib import Path

import torch
from open_clip import CLIP
from safetensors.torch import save_file

from training.mini.clip import MEAN, STD, mini_clip_config
from training.world.names import END, PAD, START, UNKNOWN, build_tokenizer

PREFIX = "clip."


def export_clip(checkpoint: Path, output: Path) -> None:
    """Write weights, config and tokenizer of a Lightning checkpoint of `ContrastiveClip`.

    Args:
        checkpoint: .ckpt file.
        output: folder to write, replaced if there.
    """
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    weights = {k.removeprefix(PREFIX): v for k, v in state.items() if k.startswith(PREFIX)}
    model = CLIP(**mini_clip_config())
    model.load_state_dict(weights, strict=True)
    aside = output.with_name(f".{output.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    save_file(model.state_dict(), aside / "open_clip_model.safetensors", {"format": "pt"})
    preprocess = {"mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": "squash"}
    config = {"model_cfg": mini_clip_config(), "preprocess_cfg": preprocess}
    (aside / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
    build_tokenizer(wrap=True).save(str(aside / "tokenizer.json"))
    names = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": PAD,
        "unk_token": UNKNOWN,
        "bos_token": START,
        "eos_token": END,
    }
    (aside / "tokenizer_config.json").write_text(json.dumps(names, indent=2) + "\n")
    shutil.rmtree(output, ignore_errors=True)
    aside.rename(output)
