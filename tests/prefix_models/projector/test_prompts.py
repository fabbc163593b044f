"""Prompts with placeholders: which tokens reach the language model, in which chat format."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from prefix_models import PrefixModelError, word_tokenizer
from prefix_models.projector.placeholders import Placeholder, find_placeholders
from prefix_models.projector.prompts import PLAIN_TEMPLATE, PromptTokenizer, chat_template

CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Texts that teach it tokens across the edges of placeholders, such as "><" and "e <region".
CORPUS = ["USER: Compare <region1> with <region2>.\nASSISTANT:\n", "(<region>) the<region>the "] * 9
TEMPLATES = [PLAIN_TEMPLATE, "<|im_start|>user\n{prompt}<|im_end|>\n", "{prompt}"]


def trained(kind: str) -> PreTrainedTokenizerFast:
    """A tokenizer of GPT-2's and Qwen's make ("bytes"), or of Llama 2's ("spaces")."""
    special = ["<|im_start|>", "<|im_end|>"]
    backend = Tokenizer(models.BPE())
    if kind == "bytes":
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        backend.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        backend.decoder = decoders.Metaspace(prepend_scheme="first")
        alphabet = [*map(chr, range(33, 127)), "▁", "\n"]
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=special, initial_alphabet=alphabet)
    backend.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|im_end|>"
    )


TOKENIZERS = {kind: trained(kind) for kind in ("bytes", "spaces")}


def pieces_of(text: str) -> list[str]:
    return re.split(r"<(?:region\d*|image)>", text)


def test_the_tokenizer_would_merge_a_placeholder_with_its_neighbours() -> None:
    tokens = TOKENIZERS["bytes"].tokenize("Compare <region1> with <region2>.")
    assert any("with" in token and "region" in token for token in tokens)


@pytest.mark.parametrize("template", TEMPLATES)
@given(
    words=st.lists(st.text("aehtw <>(.\n雪", max_size=8), min_size=1, max_size=4),
    numbers=st.permutations(["<region1>", "<region2>", "<image>"]),
)
def test_pieces_of_text_have_the_tokens_they_have_alone(
    template: str, words: list[str], numbers: list[str]
) -> None:
    prompt = "".join(word + place for word, place in zip(words, numbers, strict=False))
    tokenizer = TOKENIZERS["bytes"]
    parts = PromptTokenizer(tokenizer, template)(prompt)
    pieces = pieces_of(template.replace("{prompt}", prompt))
    alone = [tokenizer(piece, add_special_tokens=False)["input_ids"] for piece in pieces if piece]
    assert [part for part in parts if isinstance(part, list)] == alone
    assert [part.text for part in parts if isinstance(part, Placeholder)] == numbers[: len(words)]


def test_sentencepiece_starts_the_whole_text_only() -> None:
    tokenizer = TOKENIZERS["spaces"]
    parts = PromptTokenizer(tokenizer, PLAIN_TEMPLATE)("Compare <region1> with<region2>.")
    texts = [
        "".join(tokenizer.convert_ids_to_tokens(part)).replace("▁", " ")
        for part in parts
        if isinstance(part, list)
    ]
    assert texts == [" USER: Compare ", " with", ".\nASSISTANT:\n"]


@pytest.mark.parametrize("kind", list(TOKENIZERS))
def test_special_tokens_of_the_template_are_single_tokens(kind: str) -> None:
    first, _, last = PromptTokenizer(TOKENIZERS[kind], TEMPLATES[1])("<region> a")
    assert first[0] == TOKENIZERS[kind].convert_tokens_to_ids("<|im_start|>")
    assert TOKENIZERS[kind].convert_tokens_to_ids("<|im_end|>") in last


def test_the_given_tokenizer_stays_as_it_is() -> None:
    tokenizer = trained("bytes")
    before = tokenizer.get_vocab()
    PromptTokenizer(tokenizer, PLAIN_TEMPLATE)("<region> a")
    assert tokenizer.get_vocab() == before and len(tokenizer("<|visual_token|>")["input_ids"]) > 1


def test_chat_format_is_the_tokenizers_own() -> None:
    tokenizer = trained("bytes")
    assert chat_template(tokenizer) == PLAIN_TEMPLATE == "USER: {prompt}\nASSISTANT:\n"
    tokenizer.chat_template = CHAT
    assert chat_template(tokenizer) == (
        "<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
    )


def test_plain_format_starts_with_the_token_that_starts_every_text() -> None:
    from tokenizers import processors

    tokenizer = trained("spaces")
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    assert chat_template(tokenizer) == PLAIN_TEMPLATE  # it has one, but does not use it
    start = tokenizer.bos_token_id
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", start)]
    )
    assert chat_template(tokenizer) == "<s>" + PLAIN_TEMPLATE
    parts = PromptTokenizer(tokenizer, chat_template(tokenizer))("<region>")
    assert parts[0][0] == start and parts[0].count(start) == 1


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('no') }}", r"refuses a user turn \(TemplateError\); give the text"),
        ("{{ nothing.at.all }}", "refuses a user turn"),
        ("hello", "does not repeat the user's words once: 'hello'"),
        ("{% for m in messages %}{{ m['content'] }} {{ m['content'] }}{% endfor %}", "words once"),
    ],
)
def test_unusable_chat_templates(template: str, message: str) -> None:
    tokenizer = word_tokenizer(["a"])
    tokenizer.chat_template = template
    with pytest.raises(PrefixModelError, match=message):
        chat_template(tokenizer)


def test_placeholders() -> None:
    def regions(prompt: str) -> list[int | None]:
        return [place.region for place in find_placeholders(prompt)]

    assert regions("<region2> and <region1> on <image>, <region2>?") == [1, 0, None, 1]
    assert regions("<region>, <region>, <image>") == [0, 1, None]
    assert regions("<region0> <region> > <Region> <regions> <region01>") == [0]
    with pytest.raises(PrefixModelError, match="either <region> or numbers such as <region1>"):
        find_placeholders("<region> or <region1>")


@pytest.mark.parametrize(
    ("prompt", "message"),
    [(3, "prompt: expected a text, found int"), ("a <|visual_token|> b", "it has a meaning here")],
)
def test_bad_prompts(prompt: Any, message: str) -> None:
    with pytest.raises(PrefixModelError, match=message):
        PromptTokenizer(TOKENIZERS["bytes"], PLAIN_TEMPLATE)(prompt)
