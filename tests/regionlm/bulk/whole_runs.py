"""What the tests of whole runs share."""

import json
from collections.abc import Callable
from pathlib import Path

Run = Callable[..., str]
Write = Callable[..., Path]


def read_output(output: Path) -> list[dict]:
    """The lines of a run's output."""
    return [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
