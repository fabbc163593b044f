"""Tools for agents: functions on images and regions, with schemas for function calling and MCP.

Names are imported on first use, as in `regionlm`.
"""

from typing import TYPE_CHECKING

from prefix_models.lazy import on_first_use

if TYPE_CHECKING:
    from regionlm.tools.answers import Answer
    from regionlm.tools.bounds import Bounds
    from regionlm.tools.registry import TOOLS, Tool, call, offered, schemas
    from regionlm.tools.workspace import Workspace

_HOMES = {
    "TOOLS": "registry",
    "Answer": "answers",
    "Bounds": "bounds",
    "Tool": "registry",
    "Workspace": "workspace",
    "call": "registry",
    "offered": "registry",
    "schemas": "registry",
}

__all__ = ["TOOLS", "Answer", "Bounds", "Tool", "Workspace", "call", "offered", "schemas"]


__getattr__ = on_first_use(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
