"""Fields of dataclasses against their annotations."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pytest

from prefix_models.checks import AnyPath, Checked, Count, Described, PositiveCount, Range
from prefix_models.errors import PrefixModelError, UserError

Share = Annotated[float, Range(above=0, most=1, hint="0.5 does no harm")]
Odd = Annotated[int, Described("an odd number", fits=lambda value: value % 2)]


@dataclass(frozen=True, kw_only=True)
class Options(Checked):
    steps: PositiveCount | None = None
    warmup: Count = 0
    level: Annotated[int, Range(-3, 3)] = 0
    share: Share = 0.5
    rate: float = 0.1
    flag: bool = False
    name: str = "a"
    kind: Literal["mean", "max"] = "mean"
    more: Literal["a", "b", "c"] | None = None
    folder: Path | None = None
    file: AnyPath | None = None
    size: int | tuple[int, int] = 8
    odd: Odd = 1
    words: Sequence[str] = ()
    numbers: list[int] = field(default_factory=list)
    anything: Any = None
    table: dict[str, Any] = field(default_factory=dict)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps: expected an integer >= 1, found 0"),
        ({"steps": True}, "steps: expected an integer >= 1, found True"),
        ({"steps": 2.0}, "steps: expected an integer >= 1, found 2.0"),
        ({"warmup": None}, "warmup: expected an integer >= 0, found None"),
        ({"level": 4}, "level: expected an integer from -3 to 3, found 4"),
        ({"level": -(10**400)}, f"level: expected an integer from -3 to 3, found -1{'0' * 195}..."),
        ({"share": 0}, "share: expected a number > 0 and <= 1, found 0; 0.5 does no harm"),
        ({"share": math.nan}, "share: expected a number > 0 and <= 1, found nan; 0.5 does no harm"),
        ({"rate": math.inf}, "rate: expected a number, found inf"),
        ({"rate": 10**400}, f"rate: expected a number, found 1{'0' * 196}..."),
        ({"rate": "0.1"}, "rate: expected a number, found '0.1'"),
        ({"flag": 1}, "flag: expected true or false, found 1"),
        ({"name": None}, "name: expected text, found None"),
        ({"kind": "min"}, "kind: expected mean or max, found 'min'"),
        ({"kind": ["mean"]}, "kind: expected mean or max, found ['mean']"),
        ({"more": "d"}, "more: expected one of a, b, c; found 'd'"),
        ({"folder": 3}, "folder: expected a path, found 3"),
        ({"file": 3}, "file: expected the path of a file or folder, found 3"),
        ({"size": (1, 2, 3)}, "size: expected an integer or (an integer, an integer); found (1, 2"),
        ({"odd": 4}, "odd: expected an odd number, found 4"),
        ({"odd": "4"}, "odd: expected an odd number, found '4'"),
        ({"words": "cat"}, "words: expected a list, found 'cat'"),
        ({"words": ["cat", 3]}, "words: expected a list, found ['cat', 3]"),
        ({"numbers": (1, 2)}, "numbers: expected a list, found (1, 2)"),
        ({"table": [1]}, "table: expected a mapping, found [1]"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(options, message):
    with pytest.raises(UserError) as caught:
        Options(**options)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


def test_numbers_of_numpy_become_pythons_and_text_a_path():
    found = Options(steps=np.int64(3), rate=np.float32(0.5), share=1, size=[np.int32(4), 5],
                    folder="a/b", file="a/b", numbers=[np.uint8(7)])  # fmt: skip
    assert found == Options(steps=3, rate=0.5, share=1.0, size=[4, 5], folder=Path("a/b"),
                            file="a/b", numbers=[7])  # fmt: skip
    kinds = [type(one) for one in (found.steps, found.rate, found.share, found.size[0])]
    assert kinds == [int, float, float, int] and type(found.numbers[0]) is int


@dataclass
class Needy(Checked):
    error: ClassVar = PrefixModelError
    section: ClassVar = "needy."

    width: PositiveCount
    names: list[str] = field(default_factory=list)


def test_values_by_name_are_named_where_they_are_unknown_or_missing():
    assert Needy.read({"width": 3}, "a test") == Needy(3)
    with pytest.raises(PrefixModelError, match=r"^needy\.widht: not .* of a test, which has width"):
        Needy.read({"width": 3, "widht": 3}, "a test")
    with pytest.raises(PrefixModelError, match=r"^needy\.width: a test needs it$"):
        Needy.read({"names": []}, "a test")
    with pytest.raises(PrefixModelError, match=r"^needy\.width: expected an integer >= 1"):
        Needy.read({"width": -1}, "a test")


def test_what_was_changed_can_be_checked_again():
    options = Needy(3)
    options.width = 0
    with pytest.raises(PrefixModelError, match=r"needy\.width"):
        options.check()
