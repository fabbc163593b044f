"""Tiny language models with adapters, as peft and transformers make and write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from prefix_models import word_tokenizer
from tests.prefix_models.kinds import WORDS, causal_lm

TOKENIZER = word_tokenizer(WORDS)
# Where the two kinds call the same layer otherwise, both names: peft takes those that are there.
CASES: dict[str, dict[str, Any]] = {
    "lora": {},
    "dora": {"use_dora": True},
    "rslora": {"use_rslora": True, "lora_alpha": 32},
    "ranks": {"rank_pattern": {"c_attn": 2, "q_proj": 2}, "alpha_pattern": {"c_attn": 7}},
    "biases": {"bias": "all"},
    "pissa": {"init_lora_weights": "pissa"},
    "head": {"modules_to_save": ["lm_head"]},
    "norms": {"modules_to_save": ["ln_f", "norm"]},
    "words": {"modules_to_save": ["wte", "embed_tokens"]},
    "lora-words": {"target_modules": ["wte", "embed_tokens"]},
    "lora-head": {"target_modules": ["lm_head"]},
    "tokens": {"trainable_token_indices": [3, 4]},
}


def plain(kind: str, *, tied: bool | None = None) -> Any:
    """A language model; whether output and input embeddings are one, None means as is usual."""
    lm = causal_lm(kind, len(WORDS) + 3)
    if tied not in (None, lm.config.tie_word_embeddings):
        lm.config.tie_word_embeddings = tied
        lm = type(lm)(lm.config)
    return lm.eval()


def settings(kind: str, **options: Any) -> peft.LoraConfig:
    given = {"r": 3, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **options}
    return peft.LoraConfig(fan_in_fan_out=kind == "gpt2", **given)


def trained(lm: Any) -> Any:
    """Change all that training would."""
    with torch.no_grad():
        for parameter in lm.parameters():
            if parameter.requires_grad:
                parameter.add_(0.5 * torch.randn_like(parameter))
    return lm.eval()


def wrapped(kind: str, name: str = "default", base: Any = None, **options: Any) -> Any:
    lm = plain(kind) if base is None else base
    return trained(peft.get_peft_model(lm, settings(kind, **options), adapter_name=name))


def injected(kind: str, name: str = "mine", base: Any = None, **options: Any) -> Any:
    lm = plain(kind) if base is None else base
    return trained(peft.inject_adapter_in_model(settings(kind, **options), lm, name))


def scores(lm: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = lm(input_ids=torch.arange(3, 15)[None], use_cache=False).logits
    return found


def adapter_folder(folder: Path, kind: str, **options: Any) -> tuple[Path, Tensor]:
    """Folder of adapters as peft writes it, beside that of its language model, and its scores."""
    plain(kind).save_pretrained(folder / "base")
    TOKENIZER.save_pretrained(folder / "base")
    base = AutoModelForCausalLM.from_pretrained(folder / "base")
    lm = wrapped(kind, base=base, **options)
    lm.save_pretrained(folder / "adapter")
    return folder / "adapter", scores(lm)


def everything(lm: Any) -> dict[str, tuple[Tensor, bool, bool]]:
    """What saving must leave as it is: weights, what is trained, mode of each part."""
    found = {
        n: (v.clone(), v.requires_grad, False) for n, v in lm.state_dict(keep_vars=True).items()
    }
    parts = {n: (torch.zeros(0), False, part.training) for n, part in lm.named_modules()}
    return {
        **{f"weight {n}": v for n, v in found.items()},
        **{f"part {n}": v for n, v in parts.items()},
    }


def unchanged(lm: Any, before: dict[str, tuple[Tensor, bool, bool]]) -> bool:
    now = everything(lm)
    return now.keys() == before.keys() and all(
        now[n][0].equal(v[0]) and now[n][1:] == v[1:] for n, v in before.items()
    )
