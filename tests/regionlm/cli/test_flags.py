"""The words of a command line: names, values, flags, lists."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from eval.run_settings import Run
from regionlm.cli.flags import UsageError, expected, option_kinds, read_words
from training.fit_settings import Fit


@dataclass
class Inner:
    deep_flag: bool = False
    name: str = ""


@dataclass
class Outer:
    kind: Literal["a", "b"]
    flag: bool = False
    inner: Inner = field(default_factory=Inner)
    maybe: Inner | None = None
    many: list[Inner] = field(default_factory=list)
    two_words: str | None = None
    free: dict[str, Any] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)


def test_options_have_dotted_names():
    kinds = option_kinds(Outer)
    assert list(kinds) == [
        "kind", "flag", "inner", "inner.deep_flag", "inner.name", "maybe", "maybe.deep_flag",
        "maybe.name", "many", "two_words", "free", "texts",
    ]  # fmt: skip
    assert kinds["maybe.deep_flag"] is bool and kinds["many"] == list[Inner]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (["--flag"], [("flag", "true")]),
        (["--flag", "--kind", "a"], [("flag", "true"), ("kind", "a")]),
        (["--flag", "false"], [("flag", "false")]),
        (["--flag=no"], [("flag", "no")]),
        (["--inner.deep-flag"], [("inner.deep_flag", "true")]),
        (["--maybe.deep_flag", "--flag"], [("maybe.deep_flag", "true"), ("flag", "true")]),
        (["--two-words", "a-b"], [("two_words", "a-b")]),
        (["--two-words=a-b=c"], [("two_words", "a-b=c")]),
        (["--two_words", "-1"], [("two_words", "-1")]),
        (["--two_words="], [("two_words", "")]),
        (["--inner", "{}"], [("inner", "{}")]),
        (["--free.a-b.c", "1", "--free=x"], [("free.a-b.c", "1"), ("free", "x")]),
        (["--texts", "a", "b", "--texts=c"], [("texts", "a"), ("texts", "b"), ("texts", "c")]),
        ([], []),
    ],
)
def test_options(given, wanted):
    words = read_words(given, option_kinds(Outer))
    assert [one[:2] for one in words.options] == wanted
    assert not any(one.more for one in words.options) and not words.help and not words.configs


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (["--texts", "a", "b"], [("texts", "a"), ("two_words", "b")]),
        (["x", "--texts", "a", "b"], [("texts", "a"), ("texts", "b"), ("two_words", "x")]),
        (["x", "--texts", "a", "--flag"], [("texts", "a"), ("flag", "true"), ("two_words", "x")]),
        (["--flag", "x"], [("flag", "true"), ("two_words", "x")]),
        (["--flag", "true", "x"], [("flag", "true"), ("two_words", "x")]),
        (["--flag", "--", "--x"], [("flag", "true"), ("two_words", "--x")]),
    ],
)
def test_an_option_without_its_name(given, wanted):
    words = read_words(given, option_kinds(Outer), "two_words")
    assert [one[:2] for one in words.options] == wanted


def test_a_list_without_its_name():
    words = read_words(["a", "--flag", "b", "--", "-c"], option_kinds(Outer), "texts")
    assert [one.text for one in words.options if one.name == "texts"] == ["a", "b", "-c"]


def test_items_may_be_added_to_a_list():
    words = read_words(["--many+", "{}", "--many+={}", "--texts+=a"], option_kinds(Outer))
    added = [("many", "{}", True), ("many", "{}", True), ("texts", "a", True)]
    assert [one[:3] for one in words.options] == added


def test_what_all_commands_have():
    words = read_words(["--config", "a", "--config=b", "--print-config"], option_kinds(Outer))
    assert (words.configs, words.print_config, words.options) == (["a", "b"], True, [])
    assert read_words(["--nope", "--help"], option_kinds(Outer)).help


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--not-known", "--kind", "a"], "unrecognized arguments: --not-known "),
        (["--flag+"], "unrecognized arguments: --flag+ "),
        (["-x"], "unrecognized arguments: -x "),
        (["--free."], "unrecognized arguments: --free. "),
        (["--many.name", "x"], "unrecognized arguments: --many.name x "),
        (["fit", "--flag"], "unrecognized arguments: fit "),
        (["--flag", "maybe"], "unrecognized arguments: maybe "),
        (["--two_words", "--flag"], "--two_words: expected a value after it"),
        (["--config"], "--config: expected a value after it"),
    ],
)
def test_words_that_mean_nothing(given, said):
    with pytest.raises(UsageError, match="^" + re.escape(said)):
        read_words(given, option_kinds(Outer))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (int | None, "int"),
        (float, "a finite number"),
        (bool, "true or false"),
        (str, "text"),
        (int | tuple[int, int] | None, "int or tuple[int, int]"),
        (Literal["a", "b"] | None, "one of 'a', 'b'"),
        (list[str], "a list of texts"),
        (list[Path], "a list of paths"),
        (Path | None, "a path"),
        (dict[str, Any], "a mapping"),
        (Inner | None, "a name, or a mapping of deep_flag, name"),
        (list[Inner], "a list, each item a name, or a mapping of deep_flag, name"),
    ],
)
def test_types_in_words(kind, said):
    assert expected(kind) == said


@pytest.mark.parametrize(
    ("settings", "flags"),
    [
        (Run, {"skip_bad", "clipscore", "model.offline", "judge.offline", "sam.offline",
               "trainer.progress"}),
        (Fit, {"private", "start.offline", "recipe.clipcap_original"}),
    ],
)  # fmt: skip
def test_flags_of_the_commands(settings, flags):
    assert flags <= {name for name, kind in option_kinds(settings).items() if kind is bool}
