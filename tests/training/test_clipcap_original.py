"""The published recipe, against its own arithmetic written out here."""

import math

import pytest
import torch

from prefix_models import PrefixModelError
from training.fit_settings import Recipe
from training.objectives import OriginalClipCapLoss, original_max_tokens
from training.optimizers import OriginalAdamW, new_optimizer
from training.step_batches import Split, StepBatches

from .tiny import DIM, tiny_clipcap, tiny_projector

# "<pad>" is token 0 of this tokenizer, as "!" is of GPT-2's.
TEXTS = ["a red car on the snow.", "<pad> an owl <pad>.", "corn."]


def _published_loss(model, embeddings, texts, max_tokens):
    """One row at a time: scores of every token but 0, after the prefix and the tokens before it."""
    total, count = 0.0, 0
    for embedding, text in zip(embeddings, texts, strict=True):
        ids = model.tokenizer(text, add_special_tokens=False)["input_ids"][:max_tokens]
        hidden = model.mapper(embedding[None])
        for i, token in enumerate(ids):
            words = model.lm.transformer.wte(torch.tensor(ids[:i], dtype=torch.long))[None]
            inputs = torch.cat((hidden, words), dim=1)
            scores = model.lm(inputs_embeds=inputs).logits[0, -1]
            if token != 0:
                total, count = total - scores.log_softmax(0)[token].item(), count + 1
    return total / count


@pytest.mark.parametrize("max_tokens", [20, 4])
def test_the_loss_ignores_token_0_and_has_no_end_token(max_tokens):
    model = tiny_clipcap(stop="period").eval()
    embeddings = torch.randn(3, DIM)
    objective = OriginalClipCapLoss(model, max_tokens)
    with torch.no_grad():
        expected = _published_loss(model, embeddings, TEXTS, max_tokens)
        assert objective.loss(embeddings, TEXTS).item() == pytest.approx(expected, abs=1e-5)
        if max_tokens == 20:  # ours counts the same tokens, and those of id 0
            assert model.loss(embeddings, TEXTS).item() != pytest.approx(expected, abs=1e-3)
            kept = [TEXTS[0], TEXTS[2]]
            rows = embeddings[[0, 2]]
            ours = model.loss(rows, kept).item()
            assert objective.loss(rows, kept).item() == pytest.approx(ours, abs=1e-5)
    assert objective.count_tokens(TEXTS) == ([7, 3, 2] if max_tokens == 20 else [4, 2, 2])


def test_the_longest_caption_is_ten_deviations_above_the_mean():
    model = tiny_clipcap(stop="period")
    texts = ["corn"] * 500 + ["corn " * 40]
    lengths = [1.0] * 500 + [40.0]
    mean = sum(lengths) / 501
    deviation = math.sqrt(sum((n - mean) ** 2 for n in lengths) / 500)
    assert original_max_tokens(model, texts) == int(mean + 10 * deviation) < 40
    assert original_max_tokens(model, texts[:3]) == 1


def test_it_is_for_clipcap_without_end_tokens():
    for model in (tiny_clipcap(), tiny_projector(), tiny_clipcap(stop="period", prompt="a")):
        with pytest.raises(PrefixModelError, match="stop 'period'"):
            OriginalClipCapLoss(model, 10)


def test_adamw_adds_eps_before_it_corrects_the_variance():
    """theta -= lr sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + eps), in double precision."""
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    optimizer = OriginalAdamW([weight], lr=0.1, eps=1e-2, weight_decay=0.0)
    theta, m, v = weight.detach().clone(), torch.zeros(2).double(), torch.zeros(2).double()
    for t in range(1, 6):
        gradient = torch.tensor([0.3 * t, -0.01 / t], dtype=torch.float64)
        weight.grad = gradient.clone()
        optimizer.step()
        m = 0.9 * m + 0.1 * gradient
        v = 0.999 * v + 0.001 * gradient**2
        rate = 0.1 * math.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        theta = theta - rate * m / (v.sqrt() + 1e-2)
        torch.testing.assert_close(weight.detach(), theta, rtol=1e-12, atol=0)
        resumed = OriginalAdamW([weight], lr=0.1, eps=1e-2, weight_decay=0.0)
        resumed.load_state_dict(optimizer.state_dict())
        optimizer = resumed


def test_the_schedule_is_a_line_up_and_a_line_down():
    recipe = Recipe(lr=2e-5, warmup=4, schedule="linear", clipcap_original=True, weight_decay=0.0)
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer, schedule = new_optimizer([weight], recipe, steps=10)
    assert isinstance(optimizer, OriginalAdamW) and optimizer.defaults["eps"] == 1e-6
    assert optimizer.defaults["weight_decay"] == 0
    rates = []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"] / 2e-5)
        weight.grad = torch.ones(1)
        optimizer.step()
        schedule.step()
    expected = [min(step / 4, (10 - step) / 6) for step in range(10)]
    assert rates == pytest.approx(expected)


def test_parts_of_a_step_weigh_by_the_tokens_that_count():
    model = tiny_clipcap(stop="period").eval()
    objective = OriginalClipCapLoss(model, 20)
    data = [(torch.randn(DIM), TEXTS[i % 3]) for i in range(6)]

    def step(split):
        return list(StepBatches(data, 1, 6, 0, objective.count_tokens, split=split))

    with torch.no_grad():
        (whole,) = step(None)
        expected = objective.loss(whole.embeddings, whole.texts)
        parts = [batch for rank in range(2) for batch in step(Split(rank, 2, 2))]
        losses = [objective.loss(p.embeddings, p.texts) * p.weight for p in parts]
    assert whole.weight == 1 and len(parts) == 4
    torch.testing.assert_close(torch.stack(losses).mean(), expected)


def test_captions_of_which_no_token_counts_have_no_loss():
    model = tiny_clipcap(stop="period")
    embeddings, texts = torch.randn(2, DIM), ["<pad>", "<pad> <pad>"]
    objective = OriginalClipCapLoss(model, 20)
    loss = objective.loss(embeddings, texts)
    loss.backward()
    assert loss.item() == 0 and objective.count_tokens(texts) == [0, 0]
    assert all(not p.grad.any() for p in model.mapper.parameters())
