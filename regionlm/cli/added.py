"""Commands that installed distributions add to `regionlm`: this one's own, and anybody's.

They are entry points:

```
[project.entry-points."regionlm.commands"]
count = "my_package.cli:count"
```

`count(argv)` gets what follows the command's name, and returns an exit code, or None for 0. The
first line of its docstring is what `regionlm --help` says of it; for that its module is imported,
which should cost little. What it raises of `UserError` is printed in one line, with exit code 2.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

GROUP = "regionlm.commands"


def added_commands(but: Collection[str] = ()) -> dict[str, EntryPoint]:
    """The commands that are installed, by name, but those of some names; none is imported yet."""
    return {entry.name: entry for entry in entry_points(group=GROUP) if entry.name not in but}


def summaries(added: Mapping[str, EntryPoint]) -> dict[str, str]:
    """What each command does, in a line; one that cannot be imported says why, and harms none."""
    return {name: _summary(entry) for name, entry in added.items()}


def docstring_summary(documented: Any) -> str:
    """The first line of a docstring."""
    return (inspect.getdoc(documented) or "").split("\n")[0]


def _summary(entry: EntryPoint) -> str:
    try:
        return docstring_summary(entry.load())
    except Exception as error:  # it is somebody else's, and may fail in any way
        reason = " ".join(str(error).split())
        return f"Cannot be imported from {entry.value} ({type(error).__name__}: {reason})."
