"""Put a language model of your own behind a CLIP: a projector maps regions into its prompt.

python examples/own_language_model.py [FOLDER_OR_HUB_ID]

Without an argument the language model is a tiny GPT-2 with random weights, so that nothing is
downloaded. The projector is new, too, so the text means nothing until it is trained, with
examples/train_on_regions.py or `regionlm train fit`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from prefix_models import ProjectorConfig, ProjectorModel, word_tokenizer
from regionlm import RegionCaptioner

HERE = Path(__file__).parent


def language_model(source: str | None) -> tuple[Any, Any]:
    """A causal language model and its tokenizer."""
    if source is not None:
        return AutoModelForCausalLM.from_pretrained(source), AutoTokenizer.from_pretrained(source)
    tokenizer = word_tokenizer(["a", "the", "fox", "fish", "book", "on", "sand", "."])
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=2)
    return GPT2LMHeadModel(config), tokenizer


def main(source: str | None, output: Path | None = None) -> None:
    """Caption three regions; save the captioner as a bundle where an output folder is given."""
    backbone = RegionCaptioner.from_pretrained("mini").backbone  # or load_backbone(...)
    lm, tokenizer = language_model(source)
    config = ProjectorConfig(embedding_dim=backbone.dim, encoder=backbone.name)
    captioner = RegionCaptioner(backbone, ProjectorModel(lm, tokenizer, config), name="mine")
    masks = HERE / "sand-labels.png"
    for region in captioner.caption(HERE / "sand.png", masks, max_new_tokens=8):
        print(f"{region.region}: {region.text}")
    if output is not None:
        captioner.save_pretrained(output)  # then: regionlm caption ... --model OUTPUT


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
