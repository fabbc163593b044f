"""`regionlm tools`: what a language model has to be told to call our functions."""

from __future__ import annotations

import json

from regionlm.cli.options import ToolListing


def tools(asked: ToolListing) -> None:
    """Print the tools for agents as JSON, for function calling.

    `regionlm.tools.call(name, arguments)` runs what the model then asks for; `regionlm mcp` serves
    the same tools to agents that speak MCP.
    """
    from regionlm.tools import schemas

    print(json.dumps(schemas(asked.format), indent=2))
