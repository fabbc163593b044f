"""Decoding options: what is refused, and how."""

from typing import Any

import numpy as np
import pytest
import torch

from prefix_models import ClipCap, PrefixModelError
from prefix_models.decoding import DecodeOptions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_beams": 3}, "num_beams: not an option of decoding, which has decoding, max_new"),
        ({"min_new_tokens": -1}, "min_new_tokens: expected an integer >= 0, found -1"),
        ({"min_new_tokens": True}, "min_new_tokens: expected an integer >= 0, found True"),
        ({"min_new_tokens": 37}, "min_new_tokens=37 exceeds the maximum of 36 new tokens; lower"),
        (
            {"min_new_tokens": 5, "max_new_tokens": 4},
            "min_new_tokens=5 .* maximum of 4 new tokens;",
        ),
        ({"top_k": 2.0}, r"top_k: expected an integer >= 0, found 2\.0"),
        ({"no_repeat_ngram_size": "2"}, "no_repeat_ngram_size: expected an integer .* found '2'"),
        (
            {"repetition_penalty": 0},
            "repetition_penalty: expected a number from 1e-06 to 1000000, found 0; 1 is no",
        ),
        ({"repetition_penalty": float("nan")}, "repetition_penalty: expected a number from .* nan"),
        ({"bad_words": "cat"}, "bad_words: expected a list of texts .* found 'cat'"),
        ({"bad_words": [1]}, r"bad_words: expected .* that are not blank, found \[1"),
        ({"bad_words": [" "]}, r"bad_words: expected .* that are not blank, found \[' '"),
        ({"bad_words": ["<end>"]}, "bad_words: '<end>': token 2 ends a text; .*min_new_tokens"),
        (
            {"bad_words_ids": [7]},
            r"bad_words_ids: expected a list of lists of token ids, found \[7\]",
        ),
        (
            {"bad_words_ids": [[]]},
            r"bad_words_ids: expected a list of lists of token ids, found \[\[",
        ),
        ({"bad_words_ids": ["cat"]}, "found .*'cat'.*; texts go to bad_words"),
        ({"bad_words_ids": [[3, 19]]}, "bad_words_ids: token 19 is beyond .* model's 19 tokens"),
        ({"bad_words_ids": [[2]]}, "bad_words_ids: token 2 ends a text"),
        ({"eos_token_id": -1}, "eos_token_id: expected a token id or a list of some, found -1"),
        ({"eos_token_id": []}, r"eos_token_id: expected a token id or a list of some, found \[\]"),
        ({"eos_token_id": "."}, r"eos_token_id: expected a token id or a list of some, found '\.'"),
        ({"eos_token_id": [3, 19]}, "eos_token_id: 19 is beyond the language model's 19 tokens"),
        ({"caption_start": 3}, "caption_start: expected text, found 3"),
        (
            {"caption_start": "a zebra"},
            "the tokenizer does not know all of 'a zebra'; use other words",
        ),
        ({"caption_start": "a " * 36}, "40 positions of prefix and prompt and 1 new tokens exceed"),
    ],
)
def test_bad_options(
    model: ClipCap, embeddings: torch.Tensor, options: dict[str, Any], message: str
) -> None:
    for write in (model.generate, model.beams, lambda x, **o: model.stream(x[:1], **o)):
        with pytest.raises(PrefixModelError, match=message) as error:
            write(embeddings, **options)
        assert "\n" not in str(error.value)


def test_beams_are_beams(model: ClipCap, embeddings: torch.Tensor) -> None:
    with pytest.raises(PrefixModelError, match="leave decoding out, found 'greedy'"):
        model.beams(embeddings, decoding="greedy")
    assert model.beams(embeddings, decoding="beam") == model.beams(embeddings)


def test_scalars_of_numpy_are_numbers() -> None:
    options = {"max_new_tokens": np.int64(5), "temperature": np.float32(0.5), "seed": np.uint32(3)}
    found = DecodeOptions.from_dict(options)
    assert (found.max_new_tokens, found.temperature, found.seed) == (5, 0.5, 3)
    assert type(found.seed) is int
    with pytest.raises(PrefixModelError, match="top_k"):
        DecodeOptions.from_dict({"top_k": np.True_})


def test_lists_of_numpy_are_lists() -> None:
    options = {
        "bad_words_ids": [np.array([3]), (np.int64(4), 5)],
        "seed": list(np.arange(2)),
        "eos_token_id": np.array([6, 7]),
        "bad_words": np.array(["cat"]),
    }
    found = DecodeOptions.from_dict(options)
    assert found.bad_words_ids == [[3], (4, 5)] and found.seed == [0, 1]
    assert found.end_ids == [6, 7] and found.bad_words == ["cat"]
    assert {type(one) for one in [*found.seed, *found.end_ids]} == {int}
    for wrong in (np.array([[3.0]]), [[np.True_]], np.array([3])):
        with pytest.raises(PrefixModelError, match="bad_words_ids: expected a list of lists"):
            DecodeOptions.from_dict({"bad_words_ids": wrong})
    with pytest.raises(PrefixModelError, match=r"seed: expected .* found \[0\.5\]"):
        DecodeOptions.from_dict({"seed": np.array([0.5])})
