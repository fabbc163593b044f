"""Sources are parsed in several threads, whatever the collector does meanwhile."""

import ast
import gc
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

SOURCE = Path(__file__).read_text()


@pytest.fixture
def collections_give_turns() -> Iterator[None]:
    """Each of many collections lets another thread run."""

    def give_turn(phase: str, info: dict[str, int]) -> None:
        time.sleep(0)

    before = gc.get_threshold()
    gc.callbacks.append(give_turn)
    gc.set_threshold(100)
    yield
    gc.set_threshold(*before)
    gc.callbacks.remove(give_turn)


def _collects_again() -> bool:
    """Whether the collector is on, or soon is: other threads parse, too, which turns it off."""
    latest = time.monotonic() + 60
    while not gc.isenabled() and time.monotonic() < latest:
        time.sleep(0.01)
    return gc.isenabled()


@pytest.mark.usefixtures("collections_give_turns")
def test_threads_parse_at_once() -> None:
    def parse(_: int) -> ast.Module:
        return ast.parse(SOURCE)

    with ThreadPoolExecutor(4) as threads:
        trees = list(threads.map(parse, range(100)))
    assert all(len(tree.body) > 5 for tree in trees)
    assert _collects_again()


@pytest.mark.usefixtures("collections_give_turns")
def test_an_error_of_a_parse_is_passed_on() -> None:
    with pytest.raises(SyntaxError, match="never closed"):
        ast.parse("f(")
    assert _collects_again()
