"""Config files and the command line together: what has the last word, and what is refused."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

from regionlm.cli.flags import UsageError
from regionlm.cli.parser import parse_settings
from regionlm.cli.settings import build


@dataclass
class Item:
    source: str
    limit: int | None = None


@dataclass
class Inner:
    name: str = "x"
    size: int = 1
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class Outer:
    output: Path
    kind: Literal["a", "b"] = "a"
    inner: Inner = field(default_factory=Inner)
    maybe: Inner | None = None
    other: Item | None = None
    items: list[Item] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    flag: bool = True


def _parse(*argv):
    return parse_settings(Outer, ["--output", "o", *argv], prog="try", description="")


@pytest.fixture
def config(tmp_path):
    def write(content, name="c.yaml"):
        text = content if isinstance(content, str) else yaml.safe_dump(content)
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


def test_defaults():
    assert _parse() == Outer(Path("o"))


def test_the_command_line_has_the_last_word_wherever_it_stands(config):
    given = {"inner": {"name": "c", "options": {"a": 1, "b": "1"}}, "texts": ["c"], "flag": False}
    path = config({**given, "maybe": {"size": 7}, "items": [{"source": "s"}], "kind": "b"})
    found = _parse("--config", path)
    inner = Inner("c", 1, {"a": 1, "b": "1"})
    assert found == Outer(Path("o"), "b", inner, Inner(size=7), None, [Item("s")], ["c"], False)
    said = ["--inner.size", "3", "--inner.options.a", "2", "--texts", "x", "--texts", "y", "--flag"]
    said += ["--maybe", "null", "--items+", "{source: t, limit: 3}"]
    for argv in (["--config", path, *said], [*said, "--config", path]):
        found = _parse(*argv)
        assert found.inner == Inner("c", 3, {"a": 2, "b": "1"})
        assert found.texts == ["x", "y"] and found.flag and found.maybe is None
        assert found.items == [Item("s"), Item("t", 3)]


def test_a_later_file_changes_what_it_names(config):
    first = config({"inner": {"name": "a", "size": 2}, "maybe": None}, "1.yaml")
    second = config({"inner": {"size": 3}, "maybe": {}, "items": []}, "2.yaml")
    found = _parse("--config", first, f"--config={second}")
    assert found.inner == Inner("a", 3) and found.maybe == Inner()


def test_groups_at_once(config):
    assert _parse("--inner", "{name: b, size: 3}", "--inner.size=4").inner == Inner("b", 4)
    assert _parse("--inner.size=4", "--inner", '{"name": "b"}').inner == Inner("b", 4)
    path = config({"name": "f", "options": {"a": 1}})
    assert _parse("--inner", path, "--inner.options", "{b: 2}").inner == Inner("f", 1, {"b": 2})
    assert _parse("--maybe.name", "m").maybe == Inner("m")


@pytest.mark.parametrize("name", ["b", "001", "null-model", "a/b", "@x"])
def test_a_group_with_a_name_takes_the_name_alone(name, config):
    wanted = Inner(name, 3, {"a": 1})
    rest = ["--inner.size=3", "--inner.options.a", "1"]
    assert _parse("--inner", name, *rest).inner == _parse(*rest, f"--inner={name}").inner == wanted
    assert _parse("--maybe", name).maybe == Inner(name)
    before = config({"inner": {"name": "a", "size": 3, "options": {"a": 1}}}, "before.yaml")
    assert _parse("--config", before, "--inner", name).inner == wanted
    after = config({"inner": name, "maybe": name}, "after.yaml")
    found = _parse("--config", before, "--config", after)
    assert found.inner == wanted and found.maybe == Inner(name)


def test_keys_as_they_stand_on_the_command_line(config):
    assert _parse("--config", config({"inner.size": 3, "inner.options.a": 1})).inner == Inner(
        "x", 3, {"a": 1}
    )


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--inner.size", "x"], "--inner.size: expected int, found 'x'"),
        (["--inner.size", "null"], "--inner.size: expected int, found 'null'"),
        (["--inner", "null"], "--inner: expected a name, or a mapping of name, size, options, f"),
        (["--inner", "[a]"], "--inner: expected a name, or a mapping of name, size, options, f"),
        (["--inner", "[a"], "--inner: expected a name, or a mapping of name, size, options, f"),
        (["--other", "x"], "--other: expected a mapping of source, limit, found 'x'"),
        (["--inner", "{nope: 1}"], "--inner: inner.nope is not an option (see"),
        (["--inner", "none.yaml"], "--inner: expected a YAML file, cannot read none.yaml: No such"),
        (["--maybe.size", "x"], "--maybe.size: expected int, found 'x'"),
        (["--inner.options", "x"], "--inner.options: expected a mapping, found 'x'"),
        (["--inner.options", "{1: 2}"], "--inner.options: expected a mapping, found {1: 2}"),
        (["--items", "{source: a}"], "--items: expected a list, each item a mapping of source,"),
        (["--items", "[a]"], "--items: expected a list, each item a mapping of source, limit,"),
        (["--items", "[{limit: 1}]"], "the following arguments are required: --items[0].source"),
        (["--items", "[{source: a, x: 1}]"], "--items[0].x: no such option; expected source, lim"),
        (["--items", "[{source: 1}]"], "--items[0].source: expected text, found 1"),
        (["--kind", "c"], "--kind: expected one of 'a', 'b', found 'c'"),
        (["--flag=3"], "--flag: expected true or false, found '3'"),
    ],
)
def test_refusals_name_option_expected_and_found(argv, said):
    with pytest.raises(UsageError, match="^" + re.escape(said)):
        _parse(*argv)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("inner: {size: x}", "--inner.size: expected int, found 'x'"),
        ("nope: 1", "--config {}: nope is not an option"),
        ("inner: {nope: 1}", "--config {}: inner.nope is not an option"),
        ("inner: 3", "--inner: expected a name, or a mapping of name, size, options, found 3"),
        ("texts: a", "--texts: expected a list of texts, found 'a'"),
        ("texts: [1]", "--texts: expected a list of texts, found [1]"),
        ("flag: maybe", "--flag: expected true or false, found 'maybe'"),
        ("kind: null", "--kind: expected one of 'a', 'b', found None"),
        ("[", "--config: expected YAML in {}: while parsing"),
        ("x", "--config: expected options by name in {}, found 'x'"),
        ("", "--config: expected options by name in {}, found None"),
        ("inner: {options: &a {b: *a}}", "--config: expected YAML in {}: Circular"),
        ("? [a]\n: b", "--config: expected YAML in {}: while constructing"),
        ("1: b", "--config {}: 1 is not an option"),
    ],
)
def test_mistakes_in_files_are_one_line(content, said, config):
    path = config(content)
    with pytest.raises(UsageError, match="^" + re.escape(said.format(path))) as raised:
        _parse("--config", path)
    assert "\n" not in str(raised.value)


def test_files_of_another_encoding_are_one_line(tmp_path):
    (tmp_path / "c.yaml").write_bytes("kind: é".encode("latin-1"))
    with pytest.raises(UsageError, match="expected a file of UTF-8 text, found other bytes in"):
        _parse("--config", str(tmp_path / "c.yaml"))


def test_what_has_to_be_given_is_named_at_once():
    @dataclass
    class Needy:
        first: int
        item: Item
        second: Path
        more: Item | None = None

    def parse(*argv):
        return parse_settings(Needy, argv, prog="try", description="", positional="first")

    with pytest.raises(UsageError, match=r"required: first, --item\.source, --second \(see"):
        parse()
    with pytest.raises(UsageError, match=r"required: --second, --more\.source \(see"):
        parse("1", "--item.source=a", "--more.limit=3")
    with pytest.raises(UsageError, match=r"required: --first, --second \(see"):
        build(Needy, {"first": None, "item": {"source": "a"}})
    assert parse("1", "--item.source=a", "--second=b").item == Item("a")


def test_a_printed_configuration_is_whole_and_gives_the_same(capsys, config):
    said = ["--inner.size=3", "--maybe", "{}", "--items", "[{source: '1e3'}]", "--texts=null"]
    with pytest.raises(SystemExit) as ended:
        _parse(*said, "--print_config")
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert _parse("--config", config(text)) == _parse(*said)
    assert [*yaml.safe_load(text)] == [
        "output",
        "kind",
        "inner",
        "maybe",
        "other",
        "items",
        "texts",
        "flag",
    ]
    with pytest.raises(SystemExit):
        parse_settings(Outer, ["--print_config"], prog="try", description="")
    assert yaml.safe_load(capsys.readouterr().out)["output"] is None


def test_long_values_are_cut_in_messages():
    with pytest.raises(UsageError) as raised:
        _parse("--inner.size", "9" * 9999 + "x")
    assert len(str(raised.value)) < 300
