from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from prefix_models import ClipCap, ClipCapConfig, MLPMapper, PrefixModelError, word_tokenizer

TEXTS = ["a red cat", "the owl on snow, and a dog"]


def test_mlp_mapper_is_linear_tanh_linear() -> None:
    mapper = MLPMapper(6, prefix_length=3, hidden_size=4)
    assert mapper.inner.weight.shape == (6, 6)  # P * hidden // 2
    x = torch.randn(2, 6)
    inner = (x @ mapper.inner.weight.T + mapper.inner.bias).tanh()
    expected = (inner @ mapper.outer.weight.T + mapper.outer.bias).reshape(2, 3, 4)
    torch.testing.assert_close(mapper(x), expected)
    assert MLPMapper(6, 3, 4, width=9).inner.weight.shape == (9, 6)


@torch.no_grad()
@pytest.mark.parametrize("stop", ["eos", "period"])
@pytest.mark.parametrize("prompt", ["", "a"])
def test_loss_is_cross_entropy_of_each_token(
    build: Callable[..., ClipCap], embeddings: torch.Tensor, stop: str, prompt: str
) -> None:
    model = build(stop=stop, prompt=prompt)
    terms = []
    for embedding, text in zip(embeddings, TEXTS, strict=False):
        ids = model.tokenizer(text)["input_ids"] + ([2] if stop == "eos" else [])
        for i, token in enumerate(ids):  # one row, no padding, a pass for each token
            inputs = model.context(embedding[None])
            if i:
                before = model.lm.get_input_embeddings()(torch.tensor([ids[:i]]))
                inputs = torch.cat((inputs, before), 1)
            logits = model.lm(inputs_embeds=inputs).logits[0, -1]
            terms.append(float(logits.exp().sum().log() - logits[token]))
    loss = model.loss(embeddings[:2], TEXTS)
    assert float(loss) == pytest.approx(sum(terms) / len(terms), abs=1e-4)


def test_padding_does_not_matter(model: ClipCap, embeddings: torch.Tensor) -> None:
    apart = [model.loss(embeddings[i : i + 1], [TEXTS[i]]).item() for i in range(2)]
    tokens = [int(model.encode([text])[1].sum()) for text in TEXTS]
    together = model.loss(embeddings[:2], TEXTS).item()
    weighted = sum(a * n for a, n in zip(apart, tokens, strict=True)) / sum(tokens)
    assert together == pytest.approx(weighted, abs=1e-4)


def test_encode_appends_the_end_token_and_masks_padding(model: ClipCap) -> None:
    ids, mask = model.encode(TEXTS)
    assert mask.sum(1).tolist() == [4, 9]
    assert [int(row[keep][-1]) for row, keep in zip(ids, mask, strict=True)] == [2, 2]
    assert model.decode(ids[1][mask[1]].tolist()) == TEXTS[1]


def test_overfits_two_texts(build: Callable[..., ClipCap], embeddings: torch.Tensor) -> None:
    model = build(dropout=0.0).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = model.loss(embeddings[:2], TEXTS)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.05 < losses[0]
    assert [one.text for one in model.generate(embeddings[:2])] == TEXTS


def test_gradients_reach_the_mapper_through_a_frozen_lm(
    model: ClipCap, embeddings: torch.Tensor
) -> None:
    model.lm.requires_grad_(False)
    model.loss(embeddings[:2], TEXTS).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.mapper.parameters())
    assert all(p.grad is None for p in model.lm.parameters())


def test_normalize_input_makes_the_norm_irrelevant(
    build: Callable[..., ClipCap], embeddings: torch.Tensor
) -> None:
    normalizing, raw = build(normalize_input=True), build()
    torch.testing.assert_close(normalizing.prefix(embeddings), normalizing.prefix(9 * embeddings))
    torch.testing.assert_close(
        normalizing.prefix(embeddings), raw.prefix(F.normalize(embeddings, dim=-1))
    )
    assert not torch.allclose(raw.prefix(embeddings), raw.prefix(9 * embeddings), atol=1e-2)


def test_prompt_stands_between_prefix_and_text(
    build: Callable[..., ClipCap], embeddings: torch.Tensor
) -> None:
    model = build(prompt="the red cat")
    context = model.context(embeddings)
    assert context.shape == (5, 7, 16) and model.context_length == 7
    words = model.lm.get_input_embeddings()(
        torch.tensor(model.tokenizer("the red cat")["input_ids"])
    )
    torch.testing.assert_close(context[:, :4], model.prefix(embeddings))
    torch.testing.assert_close(context[3, 4:], words)


def test_another_causal_lm(embeddings: torch.Tensor) -> None:
    tokenizer = word_tokenizer(["a", "cat"])
    lm = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=5,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=32,
            bos_token_id=None,
            eos_token_id=2,
        )
    )
    model = ClipCap(lm, tokenizer, ClipCapConfig(12, prefix_length=3))
    alone = [model.generate(row[None], max_new_tokens=6)[0].token_ids for row in embeddings]
    together = model.generate(embeddings, max_new_tokens=6)
    assert [one.token_ids for one in together] == alone
    assert len(model.generate(embeddings, decoding="beam", beam_size=2, max_new_tokens=6)) == 5
    model.loss(embeddings[:1], ["a cat"]).backward()


def test_prefixes_share_the_language_model(model: ClipCap, embeddings: torch.Tensor) -> None:
    adapted = model.add_prefix("adapted")
    assert model.prefixes == adapted.prefixes == ["default", "adapted"]
    assert (model.prefix_name, adapted.prefix_name) == ("default", "adapted")
    assert adapted.lm is model.lm and adapted.mapper is not model.mapper
    torch.testing.assert_close(adapted.prefix(embeddings), model.prefix(embeddings))
    before = model.prefix(embeddings).clone()
    with torch.no_grad():
        adapted.mapper.outer.bias += 1
    torch.testing.assert_close(model.prefix(embeddings), before)
    torch.testing.assert_close(adapted.prefix(embeddings), before + 1)
    back = adapted.with_prefix("default")
    torch.testing.assert_close(back.prefix(embeddings), before)
    with pytest.raises(
        PrefixModelError, match="no prefix named 'x'; this model has default, adapted"
    ):
        model.with_prefix("x")
    with pytest.raises(PrefixModelError, match="already a prefix named 'adapted'"):
        model.add_prefix("adapted")
    for name in ("../x", "a.b", "", "a/b"):
        with pytest.raises(PrefixModelError, match="prefix: expected a name of letters, digits"):
            model.add_prefix(name)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["a cat"], "one text for each of 2 embeddings, found 1"),
        ("ab", "expected a list of texts"),
        (["a cat", "cat " * 36], r"1 to 35 tokens, found 36 in 'cat cat"),
    ],
)
def test_bad_texts(
    model: ClipCap, embeddings: torch.Tensor, texts: list[str], message: str
) -> None:
    with pytest.raises(PrefixModelError, match=message):
        model.loss(embeddings[:2], texts)


def test_text_without_tokens(build: Callable[..., ClipCap], embeddings: torch.Tensor) -> None:
    with pytest.raises(PrefixModelError, match="1 to 36 tokens, found 0 in ''"):
        build(stop="period").loss(embeddings[:2], ["a cat.", ""])
    with pytest.raises(PrefixModelError, match="at least one text"):
        build().loss(embeddings[:0], [])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"embedding_dim": 0}, "embedding_dim: expected an integer >= 1, found 0"),
        ({"embedding_dim": 8, "prefix_length": True}, "prefix_length: expected an integer >= 1"),
        ({"embedding_dim": 8, "prefix_length": "4"}, "prefix_length: expected .* found '4'"),
        ({"embedding_dim": 8, "mapper_width": -1}, "mapper_width: expected .* found -1"),
        (
            {"embedding_dim": 8, "normalize_input": 1},
            "normalize_input: expected true or false, found 1",
        ),
        ({"embedding_dim": 8, "stop": "dot"}, "stop: expected eos or period, found 'dot'"),
        ({"embedding_dim": 8, "encoder": None}, "encoder: expected text, found None"),
        ({"embedding_dim": 8, "widht": 3}, r"widht: not an option of a ClipCap"),
        ({"prefix_length": 8}, "embedding_dim: .* needs it"),
    ],
)
def test_bad_settings(settings: dict, message: str) -> None:
    with pytest.raises(PrefixModelError, match=message):
        ClipCapConfig.from_dict(settings)


def test_settings_round_trip() -> None:
    config = ClipCapConfig(8, 3, mapper_width=5, encoder="ViT-B-32/openai", prompt="a")
    assert ClipCapConfig.from_dict(config.to_dict()) == config


def test_parts_must_fit(build: Callable[..., ClipCap]) -> None:
    tokenizer = word_tokenizer(["a", "cat"])
    lm = GPT2LMHeadModel(GPT2Config(vocab_size=4, n_embd=8, n_layer=1, n_head=1, n_positions=16))
    with pytest.raises(PrefixModelError, match="tokenizer knows 5 tokens, the language model 4"):
        ClipCap(lm, tokenizer, ClipCapConfig(8))
    with pytest.raises(PrefixModelError, match="take 40 positions, the language model has 40"):
        build(prefix_length=40)
    with pytest.raises(PrefixModelError, match="unknown mapper 'perceiver'"):
        build(mapper="perceiver")
    lm.resize_token_embeddings(5)
    with pytest.raises(PrefixModelError, match=r"'\.' is one token"):
        ClipCap(lm, tokenizer, ClipCapConfig(8, stop="period"))
    tokenizer.eos_token = None
    with pytest.raises(PrefixModelError, match="needs a tokenizer with an end token"):
        ClipCap(lm, tokenizer, ClipCapConfig(8))


def test_word_tokenizer() -> None:
    tokenizer = word_tokenizer(["a", "fox", ",", "and", "a"])
    assert len(tokenizer) == 7 and tokenizer.eos_token_id == 2
    ids = tokenizer("A fox, and a wolf")["input_ids"]
    assert ids == [3, 4, 5, 6, 3, 1]
    assert tokenizer.decode([*ids[:-1], 2], skip_special_tokens=True) == "a fox, and a"
    for word in ("red car", "Fox", "it's", ""):
        with pytest.raises(PrefixModelError, match="is not one lower-case word"):
            word_tokenizer([word])
    with pytest.raises(PrefixModelError, match="at least one word"):
        word_tokenizer([])
