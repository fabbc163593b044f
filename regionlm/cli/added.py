"""Commands that installed packages add to `regionlm`, this package and others.

They are entry points:

```
[project.entry-points."regionlm.commands"]
count = "my_package.cli:count"
```

`count(argv)` gets the arguments after the command's name, and returns an exit code, or None for 0.
`regionlm --help` shows the first line of its docstring and imports its module for that, so the
module should import quickly. A `UserError` that it raises is printed in one line; the exit code is
then 2.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

GROUP = "regionlm.commands"


def added_commands(but: Collection[str] = ()) -> dict[str, EntryPoint]:
    """The installed commands by name, except those of some names; none is imported yet."""
    return {entry.name: entry for entry in entry_points(group=GROUP) if entry.name not in but}


def summaries(added: Mapping[str, EntryPoint]) -> dict[str, str]:
    """What each command does, in a line; for one that cannot be imported, why."""
    return {name: _summary(entry) for name, entry in added.items()}


def docstring_summary(documented: Any) -> str:
    """The first line of a docstring."""
    return (inspect.getdoc(documented) or "").split("\n")[0]


def _summary(entry: EntryPoint) -> str:
    try:
        return docstring_summary(entry.load())
    except Exception as error:  # other people's code may fail in any way
        reason = " ".join(str(error).split())
        return f"Cannot be imported from {entry.value} ({type(error).__name__}: {reason})."
