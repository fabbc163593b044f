"""A tiny random LLaVA with its processor, for the tests of all packages."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2Config,
)
from transformers.models.llava.image_processing_llava import LlavaImageProcessor

WORDS = ["a", "the", "red", "blue", ",", ".", "cat", "dog", "bird", "owl", "on", "snow", "grass"]
WORDS += ["USER", "ASSISTANT", ":", "describe", "this", "Provide", "caption", "image"]
SIDE, PATCH = 32, 8  # 16 patches


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2, "<image>": 3}
    vocabulary |= {word: 4 + number for number, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>", "<image>"])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


def tiny_llava(
    lm: str = "llama", *, layer: int | list[int] = -2, strategy: str = "default", pad: bool = False
) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """Random weights, far from uniform; `pad`: pictures are padded to a square, not cropped."""
    tokenizer = tiny_tokenizer()
    sizes: dict[str, Any] = {
        "vocab_size": len(tokenizer), "hidden_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 24,
        "max_position_embeddings": 128, "initializer_range": 0.6,
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None,
    }  # fmt: skip
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
            image_size=SIDE, patch_size=PATCH, initializer_range=0.3, projection_dim=16,
        ),
        text_config=LlamaConfig(**sizes) if lm == "llama" else Qwen2Config(**sizes),
        image_token_index=3, vision_feature_layer=layer, vision_feature_select_strategy=strategy,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlavaForConditionalGeneration(config).eval()
        # A projector near zero would say nothing of the image.
        for part in model.model.multi_modal_projector.parameters():
            torch.nn.init.normal_(part, std=0.5)
    processor = LlavaProcessor(
        LlavaImageProcessor(
            size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}, do_pad=pad
        ),
        tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy=strategy,
        num_additional_image_tokens=1,
    )
    return model, processor
