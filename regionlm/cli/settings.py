"""From words and YAML files to dataclasses: merged first, then checked option by option.

All options end up in one nested dict of plain values. Config files are read in order, a later one
overrides an earlier one, and the command line overrides them all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_type_hints

from prefix_models.checks import hint_of
from regionlm.cli.flags import (
    Option,
    UsageError,
    Words,
    alternatives,
    as_written,
    default_of,
    expected,
    group_of,
    has_name,
    is_dict,
    is_list,
    is_required,
    is_texts,
    items_of,
    known_name,
    shown,
)
from regionlm.cli.values import converted, read_word, read_yaml

Settings = TypeVar("Settings")
Given = dict[str, Any]


def merge(words: Words, kinds: Mapping[str, Any]) -> Given:
    """The values of config files and the command line by option, groups of options nested.

    Raises:
        UsageError: a file that can't be read as YAML options, an unknown option, or text where a
            mapping or a list is expected.
    """
    given: Given = {}
    for config in words.configs:
        _put_all(given, kinds, "", _read_config("--config", config), f"--config {config}")
    begun: set[str] = set()
    for option in words.options:
        _put_word(given, kinds, option, begun)
    return given


def build(settings: type[Settings], given: Mapping[str, Any], above: str = "") -> Settings:
    """A dataclass made of plain values, each converted to the type of its field.

    Args:
        settings: the dataclass; its fields may be dataclasses, and lists of such.
        given: values by name of field; a field that is not there has its default.
        above: dotted name of the group that its options belong to, with a dot at the end.

    Raises:
        UsageError: an unknown or missing name, or a value of another type.
    """
    lacking = missing(settings, given, above)
    if lacking:
        raise UsageError(lack(lacking))
    kinds, annotated = get_type_hints(settings), get_type_hints(settings, include_extras=True)
    for name in given:
        if name not in kinds:
            raise UsageError(
                f"--{above}{name}: no such option; expected {', '.join(kinds)} (see regionlm"
                " --help)"
            )
    values = {
        name: _typed(above + name, kinds[name], value, hint_of(annotated[name]))
        for name, value in given.items()
    }
    for one in fields(settings):  # type: ignore[arg-type]
        if one.name not in values and is_required(one):  # a group of options with defaults
            values[one.name] = build(group_of(kinds[one.name]), {}, f"{above}{one.name}.")
    return settings(**values)


def missing(settings: Any, given: Mapping[str, Any], above: str = "") -> list[str]:
    """Dotted names of the required options that are not given."""
    found = []
    kinds = get_type_hints(settings)
    for one in fields(settings):
        group, value = group_of(kinds[one.name]), given.get(one.name)
        if group is not None and (isinstance(value, Mapping) or is_required(one)):
            inner = value if isinstance(value, Mapping) else {}
            found += missing(group, inner, f"{above}{one.name}.")
        elif is_required(one) and value is None:
            found.append(above + one.name)
    return found


def lack(names: list[str], positional: str | None = None) -> str:
    """The message about required options that are not given."""
    written = as_written(names, positional)
    return f"the following arguments are required: {written} (see regionlm --help)"


def template(settings: Any, given: Mapping[str, Any], above: str = "") -> Given:
    """All options of a dataclass as plain values; null for a required one that is not given."""
    found: Given = {}
    kinds = get_type_hints(settings)
    for one in fields(settings):
        kind, value = kinds[one.name], given.get(one.name)
        if group_of(kind) is not None and (isinstance(value, Mapping) or is_required(one)):
            inner = value if isinstance(value, Mapping) else {}
            found[one.name] = template(group_of(kind), inner, f"{above}{one.name}.")
        elif one.name in given and not (value is None and is_required(one)):
            found[one.name] = _plain(_typed(above + one.name, kind, value))
        else:
            found[one.name] = None if is_required(one) else _plain(default_of(one))
    return found


def _typed(name: str, kind: Any, value: Any, hint: str = "") -> Any:
    group, items = group_of(kind), items_of(kind)
    fits = True
    if value is None:
        fits = NoneType in alternatives(kind)
    elif group is not None:
        fits = isinstance(value, Mapping)
        value = build(group, value, f"{name}.") if fits else value
    elif items is not None:
        fits = isinstance(value, list) and all(isinstance(one, Mapping) for one in value)
        if fits:
            value = [build(items, one, f"{name}[{i}].") for i, one in enumerate(value)]
    elif is_dict(kind):
        fits = isinstance(value, Mapping) and all(isinstance(key, str) for key in value)
    else:
        try:
            value = converted(kind, value)
        except ValueError:
            fits = False
    if not fits:
        message = f"--{name}: expected {expected(kind)}, found {shown(value)}"
        raise UsageError(f"{message}; {hint}" if hint else message)
    return value


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def _put_word(given: Given, kinds: Mapping[str, Any], option: Option, begun: set[str]) -> None:
    """Store an option of the command line; `begun`: the lists that it has added to."""
    name, text, more, is_further = option
    kind = kinds.get(name)
    if kind is None:  # inside of a dict
        _put(given, name, read_word(text))
    elif is_texts(kind):
        if not more and name not in begun:
            _put(given, name, [])
        begun.add(name)
        _add(given, name, text)
    elif items_of(kind) is not None and more:
        _add(given, name, _read_structure(name, kind, text))
    elif group_of(kind) is not None or items_of(kind) is not None or is_dict(kind):
        _put_value(given, kinds, name, _read_structure(name, kind, text), f"--{name}")
    elif is_list(kind):
        if not more and name not in begun:
            _put(given, name, [])
        begun.add(name)
        for item in _items(kind, read_word(text)):
            _add(given, name, item)
    elif is_further:  # of what may be one value or a list
        before = _get(given, name)
        _put(given, name, before if isinstance(before, list) else [read_word(before)])
        _add(given, name, read_word(text))
    else:
        _put(given, name, text)


def _items(kind: Any, value: Any) -> list[Any]:
    """The items that a value adds to a list: those of a list, or itself as one."""
    try:
        converted(kind, value)
    except ValueError:
        return [value]
    return list(value)


def _put_all(
    given: Given, kinds: Mapping[str, Any], above: str, values: Mapping[Any, Any], place: str
) -> None:
    for key, value in values.items():
        name = known_name(f"{above}{key}", kinds)
        if name is None:
            raise UsageError(f"{place}: {above}{key} is not an option (see regionlm --help)")
        _put_value(given, kinds, name, value, place)


def _put_value(given: Given, kinds: Mapping[str, Any], name: str, value: Any, place: str) -> None:
    group = group_of(kinds.get(name))
    if has_name(group) and isinstance(value, str) and not value.startswith(("{", "[")):
        value = {"name": value}
    if group is not None and isinstance(value, Mapping):
        if not isinstance(_get(given, name), dict):
            _put(given, name, {})
        _put_all(given, kinds, f"{name}.", value, place)
    else:
        _put(given, name, value)


def _put(given: Given, name: str, value: Any) -> None:
    *path, last = name.split(".")
    for part in path:
        if not isinstance(given.get(part), dict):
            given[part] = {}
        given = given[part]
    given[last] = value


def _get(given: Given, name: str) -> Any:
    found: Any = given
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _add(given: Given, name: str, value: Any) -> None:
    before = _get(given, name)
    _put(given, name, [*(before if isinstance(before, list) else []), value])


def _read_structure(name: str, kind: Any, text: str) -> Any:
    """A mapping or list read from a word: YAML or, for a group of options, the name of a YAML file.

    Any other text is returned as it is: it is a group's name, or is refused when its type is
    checked.
    """
    if group_of(kind) is not None and text.endswith((".yaml", ".yml", ".json")):
        return _read_config(f"--{name}", text)
    try:
        found = read_yaml(text)
    except ValueError:
        return text
    return found if found is None or isinstance(found, Mapping | list) else text


def _read_config(option: str, path: str) -> Mapping[Any, Any]:
    try:
        text = Path(path).read_text(encoding="utf-8")
        found = read_yaml(text)
        json.dumps(found, default=str)  # ValueError: it holds itself
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{option}: expected a file of UTF-8 text, found other bytes in {path} ({error.reason})"
        ) from error
    except OSError as error:
        raise UsageError(
            f"{option}: expected a YAML file, cannot read {path}: {error.strerror or error}"
        ) from error
    except (ValueError, TypeError) as error:
        raise UsageError(f"{option}: expected YAML in {path}: {error}") from error
    if not isinstance(found, Mapping):
        raise UsageError(f"{option}: expected options by name in {path}, found {shown(found)}")
    return found
