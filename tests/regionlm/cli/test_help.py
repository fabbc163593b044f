"""`--help` out of dataclasses."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from eval.run_settings import Run
from regionlm.cli.flags import group_of, option_kinds
from regionlm.cli.help import Section, command_help, commands_help
from regionlm.cli.main import main
from training.fit_settings import Fit, PairSet


@dataclass
class Base:
    """what.

    Args:
        image: A picture of 100 % contrast.
        lists: Some.
    """

    image: str | None = None
    lists: list[str] = field(default_factory=list)


@dataclass
class Options(Base):
    """how it is done.

    Args:
        image: Another picture.
        kind: Which.
        flag: Whether.
        on: Whether too.
        path: Where to.
        free: Anything.
    """

    image: str = field()  # a bare annotation would inherit the default
    path: Path = Path("x")
    kind: Literal["a", "b"] | None = None
    flag: bool = False
    on: bool = True
    free: dict[str, Any] = field(default_factory=dict)


def _lines(text):
    return [" ".join(line.split()) for line in text.splitlines()]


def test_options_with_what_they_take():
    text = command_help("try it", "Tries.", [Section("how", Options)], "image")
    assert text.startswith("usage: try it [options] [image]\n\nTries.\n")
    lines = _lines(text)
    for line in (
        "how:",
        "image Another picture. (text, required)",
        "--lists LISTS Some. (a list of texts, default: [])",
        "--kind {a,b} Which. (default: null)",
        "--flag Whether. (default: false)",
        "--on Whether too. (default: true; add false to turn it off)",
        "--path PATH Where to. (a path, default: x)",
        "--free FREE Anything. (a mapping, default: {})",
        "--config FILE YAML file with any of these options.",
    ):
        assert line in lines
    assert "100 % contrast" in command_help("t", "", [Section("", Base)])
    assert "\n\nSays 80.0%.\n" in command_help("t", "Says 80.0%.", [])


@pytest.mark.parametrize("settings", [Run, Fit])
def test_no_option_is_left_out(settings):
    text = command_help("t", "", [Section("all", settings)])
    for name in option_kinds(settings):
        assert re.search(rf"^  --{re.escape(name)}( |$)", text, re.MULTILINE), name


def test_keys_of_the_items_of_lists_are_told_once():
    lines = _lines(command_help("t", "", [Section("all", Fit)]))
    assert lines.count("Keys of each item of --data and --validation:") == 1
    assert sum(line.startswith("embedder_options") for line in lines) == 1
    assert group_of(PairSet) is PairSet


def test_commands_with_what_they_do():
    text = commands_help("try", "Tries.", {"one": "Does 1 %.", "two": "Does 2."}, has_version=True)
    lines = _lines(text)
    assert "one Does 1 %." in lines and "two Does 2." in lines and "--version" in text
    assert "--version" not in commands_help("try", "", {})


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "usage: regionlm [options] COMMAND"),
        (["train"], "usage: regionlm train [options] COMMAND"),
        (["train", "fit"], "usage: regionlm train fit [options]"),
        (["eval", "--task", "nope", "--x"], "usage: regionlm eval [options]"),
        (["report"], "usage: regionlm report [options] [folders]"),
        (["caption", "i.png"], "usage: regionlm caption [options] [image]"),
    ],
)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_every_command_has_help(argv, said, flag, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*argv, flag])
    printed = capsys.readouterr()
    assert ended.value.code == 0 and printed.out.startswith(said) and printed.err == ""


def test_choices_of_a_union_are_all_told(capsys):
    with pytest.raises(SystemExit):
        main(["explain", "--help"])
    choices = "{legrad,gradcam,gradcam_no_relu,chefer,rollout}"
    assert f"--relevance {choices}" in _lines(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["nope"], "no command 'nope': expected one of caption, match, embed"),
        (["--nope"], "no command '--nope': expected one of caption"),
        (["train"], "no command given: expected one of fit, embed (see regionlm train --help)"),
        (["train", "--output", "x"], "no command '--output': expected one of fit, embed"),
        (["report"], "the following arguments are required: folders"),
        (["report", "--plot"], "--plot: expected a value after it"),
    ],
)
def test_commands_that_there_are_not(argv, said, capsys):
    assert main(argv) == 2
    assert capsys.readouterr().err.startswith(f"regionlm: error: {said}")
