import pytest

from training.world.names import (
    END,
    PAD,
    START,
    TINTS,
    UNKNOWN,
    build_tokenizer,
    phrase,
    pictograms,
    vocabulary,
    words,
)


def test_there_are_at_least_80_distinct_names():
    assert len(pictograms()) >= 80
    assert len(set(pictograms().values())) == len(pictograms())


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        (("owl",), "an owl"),
        (("owl", "red"), "a red owl"),
        (("scissors", None, "table"), "scissors on the table"),
        (("car", "red", "snow"), "a red car on the snow"),
    ],
)
def test_phrase(parts, text):
    assert phrase(*parts) == text


def test_every_phrase_is_in_the_vocabulary():
    tokenizer = build_tokenizer(wrap=False)
    unknown = tokenizer.token_to_id(UNKNOWN)
    for name in pictograms():
        for tint in (None, *TINTS):
            assert unknown not in tokenizer.encode(phrase(name, tint, "sand")).ids


def test_end_token_has_the_highest_id_because_open_clip_pools_there():
    tokens = vocabulary()
    assert tokens[0] == PAD and tokens[-1] == END
    ids = build_tokenizer(wrap=True).encode("a red fox and an owl").ids
    assert ids[0] == tokens.index(START) and ids[-1] == len(tokens) - 1 == max(ids)
    assert len(tokens) == len(set(tokens)) == len(words()) + 4
