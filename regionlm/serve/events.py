"""Server-sent events."""

from __future__ import annotations

import json
from typing import Any


def event(name: str, data: Any) -> str:
    """One event, its data as JSON."""
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
