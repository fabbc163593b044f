"""How jsonargparse reads the options of type `Value`."""

from __future__ import annotations

from typing import Any

from jsonargparse import ArgumentError, ArgumentParser
from jsonargparse.typing import register_type

from regionlm.cli_flags import TYPED, Value


def add_settings(parser: ArgumentParser, settings: type) -> None:
    """Add the fields of a dataclass as options, dicts of `Value` among them."""
    register_type(Value, serializer=_plain, deserializer=_read, type_check=_is_read)
    parser.add_class_arguments(settings)


def _read(value: Any) -> Any:
    """The value as it is; of one that was typed, what YAML makes of it after a key."""
    if isinstance(value, dict):
        return {name: _read(part) for name, part in value.items()}
    if not isinstance(value, str) or not value.startswith(TYPED):
        return value
    text = value.removeprefix(TYPED)
    reader = ArgumentParser(exit_on_error=False)
    reader.add_argument("--read", type=dict[str, Value])
    try:
        found = reader.parse_object({"read": f"value: {text}"}).read["value"]
    except ArgumentError:
        return text  # such as "a: b"
    is_word = isinstance(found, str) and not text.startswith(("'", '"'))
    return text if is_word else found


def _plain(value: Any) -> Any:
    return value


def _is_read(value: Any, kind: type) -> bool:
    return False
