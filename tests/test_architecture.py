"""Which file may import which: the layers' arrows run one way, and no files go round in a circle.

What a function imports when it is called counts as what a file imports at its top, and so does what
only the type checker imports (`if TYPE_CHECKING`).
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

LAYERS = ("prefix_models", "regionlm", "training", "eval")
"""Lowest first: each may import those before it."""

Arrow = tuple[str, str]


def imports_of(tree: ast.AST, *, typing: bool) -> Iterator[tuple[str, str | None]]:
    """Modules that a file imports anywhere, each with a name out of it.

    typing: those for the type checker alone, instead of all others.
    """

    def walk(node: ast.AST, for_typing: bool) -> Iterator[tuple[str, str | None]]:
        if isinstance(node, ast.Import) and for_typing == typing:
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and for_typing == typing:
            assert node.level == 0 and node.module, "imports are absolute in this project"
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for one in node.body:
                yield from walk(one, True)
            for one in node.orelse:
                yield from walk(one, for_typing)
        else:
            for one in ast.iter_child_nodes(node):
                yield from walk(one, for_typing)

    return walk(tree, False)


def arrows(sources: dict[str, str], *, typing: bool) -> set[Arrow]:
    """Which of some modules, given by name and source, imports which other of them."""
    found = set()
    for name, source in sources.items():
        for module, attribute in imports_of(ast.parse(source), typing=typing):
            inner = f"{module}.{attribute}"
            target = inner if inner in sources else module
            if target in sources and target != name:
                found.add((name, target))
    return found


def upward(all_arrows: set[Arrow]) -> set[Arrow]:
    """Arrows from a layer to one above it."""
    level = {name: index for index, name in enumerate(LAYERS)}
    return {(a, b) for a, b in all_arrows if level[b.split(".")[0]] > level[a.split(".")[0]]}


def circular(all_arrows: set[Arrow]) -> set[Arrow]:
    """Arrows from whose end their start is reached again."""
    targets: dict[str, set[str]] = {}
    for a, b in all_arrows:
        targets.setdefault(a, set()).add(b)

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            new = targets.get(waiting.pop(), set()) - seen
            seen |= new
            waiting += new
        return seen

    reach = {name: reached(name) for name in targets}
    return {(a, b) for a, b in all_arrows if a in reach.get(b, set())}


@pytest.fixture(scope="module")
def sources() -> dict[str, str]:
    """Source of every module of the packages, by its name."""
    found = {}
    for layer in LAYERS:
        for path in (ROOT / layer).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = path.read_text(encoding="utf-8")
    return found


def test_no_layer_imports_one_above_it(sources):
    assert not upward(arrows(sources, typing=False) | arrows(sources, typing=True))


def test_no_files_import_each_other_in_a_circle(sources):
    assert not circular(arrows(sources, typing=False) | arrows(sources, typing=True))


def test_an_upward_import_is_found_wherever_it_stands():
    sources = {
        "regionlm.a": "def f():\n    from eval import b\n",
        "regionlm.c": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import eval.b\n",
        "eval.b": "import regionlm.a",
    }
    assert upward(arrows(sources, typing=False)) == {("regionlm.a", "eval.b")}
    assert upward(arrows(sources, typing=True)) == {("regionlm.c", "eval.b")}


def test_a_circle_is_found_but_not_what_hangs_on_it():
    sources = {
        "regionlm.a": "from regionlm.b import x",
        "regionlm.b": "class C:\n    def f(self):\n        import regionlm.c\n",
        "regionlm.c": "try:\n    from regionlm import a\nexcept ImportError: pass",
        "regionlm.d": "import regionlm.a",
    }
    circle = {("regionlm.a", "regionlm.b"), ("regionlm.b", "regionlm.c")}
    circle.add(("regionlm.c", "regionlm.a"))
    assert circular(arrows(sources, typing=False)) == circle
