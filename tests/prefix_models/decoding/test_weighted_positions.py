"""Positions that count less than others, in any language model's attention."""

from typing import Any

import pytest
import torch
from transformers import AttentionInterface

from prefix_models import PrefixModelError
from prefix_models.decoding.cached_lm import CachedLM
from tests.prefix_models.kinds import causal_lm

KINDS = ["gpt2", "llama", "qwen2"]


def lm_and_context(kind: str, rows: int = 1, length: int = 6) -> tuple[Any, torch.Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return causal_lm(kind, 20).eval(), torch.randn(rows, length, 16)


def scores(lm: Any, context: torch.Tensor, mask: torch.Tensor | None, text: list[int]) -> Any:
    """Scores after the context and after each token of a text."""
    with torch.no_grad():
        state = CachedLM(lm, context, mask)
        found = [state.logits]
        found += [state.feed(torch.full((len(context),), token)) for token in text]
    return torch.stack(found)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_one_change_nothing(kind):
    lm, context = lm_and_context(kind, rows=2)
    plain = scores(lm, context, None, [3, 5])
    torch.testing.assert_close(scores(lm, context, torch.ones(2, 6), [3, 5]), plain)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_zero_are_padding(kind):
    lm, context = lm_and_context(kind, rows=2)
    mask = torch.ones(2, 6)
    mask[0, :2] = 0
    padded = scores(lm, context, mask > 0, [3, 5])
    torch.testing.assert_close(scores(lm, context, mask, [3, 5]), padded)


def test_a_weight_is_a_number_of_copies():
    """A rotary model without its rotation, where copies stand at the same place: 3 = weight 3/3."""
    lm, context = lm_and_context("llama", length=4)
    lm.model.rotary_emb.inv_freq.zero_()  # all positions alike
    one, copied = context[:, :1], context[:, 1:2]
    thrice = torch.cat([one] * 2 + [copied] * 2 + [one, context[:, 2:]], 1)
    # Causality: a weight counts for what comes after, so look at the last position only, and let
    # the first layer be the only one that mixes.
    lm.model.layers = lm.model.layers[:1]
    mask = torch.tensor([[1.0, 2 / 3, 1.0, 1.0]])
    mask[:, 2:] = 1 / 3
    weighted = scores(lm, context, mask, [])
    torch.testing.assert_close(weighted, scores(lm, thrice, None, []), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_can_be_dropped_and_repeated(kind: str):
    lm, context = lm_and_context(kind, rows=3)
    mask = torch.rand(3, 6).clamp_min(0.1)
    with torch.no_grad():
        state = CachedLM(lm, context, mask)
        state.reorder(torch.tensor([0, 0, 1, 1, 2, 2]))
        state.feed(torch.full((6,), 3))
        state.reorder(torch.tensor([4, 0]))
        found = state.feed(torch.full((2,), 7))
    alone = scores(lm, context[[2, 0]], mask[[2, 0]], [3, 7])[-1]
    torch.testing.assert_close(found, alone)


def test_weights_matter_and_stay_finite():
    lm, context = lm_and_context("llama")
    low = torch.tensor([[1.0, 1e-30, 1, 1, 1, 1]])
    plain, weighted = scores(lm, context, None, [3]), scores(lm, context, low, [3])
    assert weighted.isfinite().all() and (plain - weighted).abs().max() > 1e-2


def test_attention_that_takes_no_scores_is_named():
    lm, context = lm_and_context("llama")
    AttentionInterface.register("blind", blind)
    lm.set_attn_implementation("blind")
    with pytest.raises(PrefixModelError, match=r"sdpa or eager.*LlamaForCausalLM"):
        CachedLM(lm, context, torch.full((1, 6), 0.5))


def blind(module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
    """Attention that takes no notice of a mask."""
    causal = {"is_causal": query.shape[2] > 1, "enable_gqa": True}
    mixed = torch.nn.functional.scaled_dot_product_attention(query, key, value, **causal)
    return mixed.transpose(1, 2), None
