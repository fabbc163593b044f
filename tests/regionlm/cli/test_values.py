"""What we need of jsonargparse, each piece tried; and dicts of settings, as they are given."""

import json
import math
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from regionlm.cli.flags import Value
from regionlm.cli.parser import parse_settings
from regionlm.cli.values import Arguments, WrongArgument, converted, read_yaml, write_yaml


@dataclass
class Inner:
    options: dict[str, Value] = field(default_factory=dict)


@dataclass
class Outer:
    inner: Inner = field(default_factory=Inner)
    lists: dict[str, list[Value]] = field(default_factory=dict)


def _read(*argv):
    return parse_settings(Outer, argv, prog="try", description="")


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
        ("1:", "1:"), ("", ""), ("?", "?"),
    ],
)  # fmt: skip
def test_words_of_the_command_line_are_yaml(typed, value):
    before = ["--inner.options", '{"a": "1", "b": "2"}']
    for words in (["--inner.options.a", typed], [f"--inner.options.a={typed}"]):
        found = _read(*before, *words).inner.options
        assert found == {"a": value, "b": "2"} and type(found["a"]) is type(value)


# --- values of a type

CHOICE = Literal["a", "b"]
SIZE = int | tuple[int, int] | None
TAKEN = [
    (int, "1", 1), (int, 1, 1), (int, "001", 1), (int | None, "-1", -1), (int | None, None, None),
    (int | None, "null", None), (float, "1", 1.0), (float, 1, 1.0), (float, "1e-3", 0.001),
    (float | None, ".inf", math.inf), (float | None, "null", None), (bool, "true", True),
    (bool, "yes", True), (bool, "no", False), (bool, False, False), (str, "1", "1"),
    (str, "null", "null"), (str, "", ""), (str, "[a]", "[a]"), (str, "a: b", "a: b"),
    (str | None, "1", "1"), (str | None, "?", "?"), (str | None, "a:", "a:"),
    (str | None, "null", None), (str | None, "{}", "{}"),
    (Path, "a b", Path("a b")), (Path | None, "null", None), (Path | None, "1", Path("1")),
    (CHOICE, "a", "a"), (CHOICE | None, "null", None), (SIZE, "64", 64), (SIZE, "[1, 2]", (1, 2)),
    (SIZE, [1, 2], (1, 2)), (SIZE, "null", None), (list[str], ["1", "null", "a: b"],
    ["1", "null", "a: b"]), (list[str], [], []), (list[Path], ["a"], [Path("a")]),
]  # fmt: skip
REFUSED = [
    (int, "1.5"), (int, 1.5), (int, True), (int, "x"), (int, None), (int, ""), (int, [1]),
    (int | None, "1e3"), (float, "nan"), (float, "x"), (float, True), (float, None), (bool, "1"),
    (bool, 1), (bool, "maybe"), (bool, None), (str, 1), (str, ["a"]), (str, None), (str | None, 1),
    (Path, 1), (Path, None), (CHOICE, "c"), (CHOICE, None), (SIZE, "[1]"), (SIZE, "[1, 2, 3]"),
    (SIZE, "x"), (list[str], "a"), (list[str], [1]), (list[str], None), (list[str], {"a": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "value", "wanted"), TAKEN)
def test_values_that_a_type_takes(kind, value, wanted):
    found = converted(kind, value)
    assert found == wanted and type(found) is type(wanted)


@pytest.mark.parametrize(("kind", "value"), REFUSED)
def test_values_that_a_type_refuses(kind, value):
    with pytest.raises(ValueError):
        converted(kind, value)


# --- YAML


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 1e-3", {"a": 0.001}), ("a: 1.0e-3", {"a": 0.001}), ("- a", ["a"]), ("x", "x"),
        ("", None), ("a:", {"a": None}), ("a: 1.5e3", {"a": 1500.0}), ("a: yes", {"a": True}),
        ("a: 2020-01-01", {"a": "2020-01-01"}),
        ('{"a": [1, null]}', {"a": [1, None]}),
    ],
)  # fmt: skip
def test_yaml(text, value):
    assert read_yaml(text) == value


@pytest.mark.parametrize("text", ["a: [1", "a: b: c", "@", "a: !!python/object:os.system {}", "\0"])
def test_what_is_no_yaml_is_one_line(text):
    with pytest.raises(ValueError) as raised:
        read_yaml(text)
    assert str(raised.value) and "\n" not in str(raised.value)


PRINTABLE = st.text(st.characters(exclude_categories=("C",)))
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-1e9, 1e9) | PRINTABLE
    | st.sampled_from(["1e-3", "null", "1", "yes", "2020-01-01", "- a", "a: b", "#", "'", '"']),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(PRINTABLE, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@given(st.dictionaries(PRINTABLE, PLAIN, max_size=3))
def test_what_is_written_is_read_as_it_was(values):
    assert read_yaml(write_yaml(values)) == values or not values


# --- arguments of a class


class Made:
    def __init__(
        self,
        name: str,
        count: int = 3,
        wait: timedelta | None = None,
        inner: "Made | None" = None,
        loose=None,
    ) -> None:
        self.given = (name, count, wait, inner, loose)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"name": "a"}, {"name": "a"}),
        ({"name": "a", "count": "4"}, {"name": "a", "count": 4}),
        ({"name": "1", "wait": "0:01:00"}, {"name": "1", "wait": timedelta(minutes=1)}),
        ({"name": "a", "loose": [1, "x"]}, {"name": "a", "loose": [1, "x"]}),
    ],
)
def test_arguments_are_as_their_types_want_them(given, wanted):
    assert Arguments(Made).converted(given) == wanted


def test_arguments_may_be_objects():
    described = {"class_path": f"{__name__}.Made", "init_args": {"name": "b"}}
    given = {"name": "a", "inner": described}
    before = json.dumps(given)
    found = Arguments(Made).converted(given)
    assert found["inner"].given[0] == "b" and json.dumps(given) == before


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": "a", "nope": 1}, "nope: no argument of Made"),
        ({"name": "a", "count": "x"}, "count: expected int, found 'x'"),
        ({"name": ["a"]}, "name: expected text, found ['a']"),
        ({"count": 3}, "name: has to be given"),
        ({"name": "a", "skipped": 1}, "skipped: no argument of Made"),
        ({"name": "a", "wait": {"a": 1}}, "wait: expected timedelta, found {'a': 1}"),
    ],
)
def test_arguments_that_can_not_be_are_named(given, said):
    with pytest.raises(WrongArgument) as raised:
        Arguments(Made, ["loose"]).converted(given)
    assert str(raised.value) == said


def test_a_class_may_take_nothing():
    class Empty:
        pass

    assert Arguments(Empty).converted({}) == {}
    with pytest.raises(WrongArgument, match="a: no argument of Empty"):
        Arguments(Empty).converted({"a": 1})


def test_names_of_arguments():
    names: list[Any] = Arguments(Made, ["loose"]).names
    assert names == ["name", "count", "wait", "inner"]
