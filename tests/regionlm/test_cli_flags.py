"""Flags without a value, and dashes for underscores."""

from dataclasses import dataclass, field
from typing import Literal

import pytest

from eval.settings import Run
from regionlm.cli_flags import option_kinds, spell_out
from training.settings import Fit


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


def test_options_have_dotted_names():
    kinds = option_kinds(Outer)
    assert list(kinds) == [
        "kind", "flag", "inner", "inner.deep_flag", "inner.name", "maybe", "maybe.deep_flag",
        "maybe.name", "many", "two_words",
    ]  # fmt: skip
    assert kinds["maybe.deep_flag"] is bool and kinds["many"] == list[Inner]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (["--flag"], ["--flag=true"]),
        (["--flag", "--kind", "a"], ["--flag=true", "--kind", "a"]),
        (["--flag", "false"], ["--flag", "false"]),
        (["--flag=no"], ["--flag=no"]),
        (["--inner.deep-flag"], ["--inner.deep_flag=true"]),
        (["--maybe.deep_flag", "--flag"], ["--maybe.deep_flag=true", "--flag=true"]),
        (["--two-words", "a-b"], ["--two_words", "a-b"]),
        (["--two-words=a-b"], ["--two_words=a-b"]),
        (["--not-known", "--kind", "a"], ["--not-known", "--kind", "a"]),
        (["fit", "--flag"], ["fit", "--flag=true"]),
        (["--two_words", "--flag"], ["--two_words", "--flag=true"]),
        ([], []),
    ],
)
def test_spelling(given, wanted):
    assert spell_out(given, Outer) == wanted


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
