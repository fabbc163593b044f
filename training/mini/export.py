"""Write the trained mini CLIP as a folder in open_clip's own format."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from open_clip import CLIP

from regionlm.backbones.clip_vit import OPENAI_MEAN, OPENAI_STD, ClipViT
from regionlm.backbones.saving import save_backbone
from regionlm.backbones.text_tokenizers import FileTokenizer
from training.mini.attention_start import POOLER
from training.mini.clip import mini_clip_config
from training.world.names import build_tokenizer

PREFIX = "clip."


def export_clip(checkpoint: Path, output: Path) -> None:
    """Write weights, config and tokenizer of a Lightning checkpoint of `ContrastiveClipModule`.

    Args:
        checkpoint: .ckpt file.
        output: folder to write; replaced if it exists.
    """
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    weights = {k.removeprefix(PREFIX): v for k, v in state.items() if k.startswith(PREFIX)}
    pooler = any(name.startswith(POOLER) for name in weights)
    config = mini_clip_config("attention" if pooler else "mean")
    model = CLIP(**config)
    model.load_state_dict(weights, strict=True)
    text = config["text_cfg"]
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "tokenizer.json"
        build_tokenizer(wrap=True).save(str(path))
        tokenizer = FileTokenizer(
            path, context=text["context_length"], vocabulary=text["vocab_size"]
        )
    backbone = ClipViT(model, tokenizer=tokenizer, mean=OPENAI_MEAN, std=OPENAI_STD, config=config)
    aside = output.with_name(f".{output.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    save_backbone(backbone, aside)
    shutil.rmtree(output, ignore_errors=True)
    aside.rename(output)
