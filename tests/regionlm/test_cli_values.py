"""Dicts of settings: what was given is what a command gets."""

import json
from dataclasses import dataclass, field

import pytest
import yaml

from regionlm.cli_flags import Value, spell_out
from regionlm.cli_parser import new_parser
from regionlm.cli_values import add_settings


@dataclass
class Inner:
    options: dict[str, Value] = field(default_factory=dict)


@dataclass
class Outer:
    inner: Inner = field(default_factory=Inner)
    lists: dict[str, list[Value]] = field(default_factory=dict)


def _read(*argv):
    parser = new_parser("try", "")
    parser.add_argument("--config", action="config")
    add_settings(parser, Outer)
    options = parser.instantiate(parser.parse_args(spell_out(argv, Outer)))
    return Outer(options.inner, options.lists)


TEXTS = ["{}", "a photo: {}", "[{}]", "1", "001", "1.5", "null", "true", "", "- a", "a"]
OTHERS = [1, 0.5, True, None, ["1", 1], {"a": "1", "b": [None, "null"]}]


@pytest.mark.parametrize("value", [*TEXTS, *OTHERS], ids=repr)
def test_values_of_files_and_json_are_as_given(value, tmp_path):
    wanted = Outer(Inner({"a": value}), {"a": [value, value]})
    config = {"inner": {"options": {"a": value}}, "lists": {"a": [value, value]}}
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(config))
    assert _read("--config", str(path)) == wanted
    path.write_text(json.dumps(config))
    assert _read("--config", str(path)) == wanted
    options = ["--inner.options", json.dumps({"a": value})]
    assert _read(*options, "--lists", json.dumps({"a": [value, value]})) == wanted


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("0.5", 0.5), ("1e-3", 0.001), ("-1", -1), ("3", 3), ("true", True), ("null", None),
        ("[64, '64']", [64, "64"]), ("word", "word"), ("'001'", "001"), ("a/b.pt", "a/b.pt"),
        ("{a: 1, b: '1'}", {"a": 1, "b": "1"}), ("a: b", "a: b"), ("a #1", "a #1"), ("@", "@"),
        ("1:", "1:"),
    ],
)  # fmt: skip
def test_words_of_the_command_line_are_yaml(typed, value):
    before = ["--inner.options", '{"a": "1", "b": "2"}']
    for words in (["--inner.options.a", typed], [f"--inner.options.a={typed}"]):
        found = _read(*before, *words).inner.options
        assert found == {"a": value, "b": "2"} and type(found["a"]) is type(value)
