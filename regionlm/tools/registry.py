"""Which tools there are, what agents are told of them, and how one is run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args, get_type_hints

from regionlm.errors import InputError
from regionlm.tools import functions
from regionlm.tools.answers import Answer
from regionlm.tools.functions import Desk
from regionlm.tools.schema import Schema, answer_schema, arguments_schema, bind, describe
from regionlm.tools.workspace import Workspace

Format = Literal["openai", "anthropic", "mcp", "json-schema"]
"""How tools are told to a model: the forms of OpenAI's and Anthropic's APIs and of MCP, or plain
JSON schemas of the arguments."""


@dataclass(frozen=True)
class Tool:
    """A tool of `regionlm.tools.functions`.

    Args:
        function: What it does.
        title: Its name for people.
        needs: The method that a captioner must have for it; "": none.
    """

    function: Callable[..., Answer[Any]]
    title: str
    needs: str = ""

    @property
    def name(self) -> str:
        """Its name for agents."""
        return self.function.__name__

    @property
    def description(self) -> str:
        """What agents are told of it."""
        return describe(self.function)

    @property
    def input_schema(self) -> Schema:
        """JSON schema of its arguments, a new one each time: callers may change it."""
        return arguments_schema(self.function)

    @property
    def output_schema(self) -> Schema:
        """JSON schema of the structured answer."""
        return answer_schema(get_args(get_type_hints(self.function)["return"])[0])


TOOLS: dict[str, Tool] = {
    tool.name: tool
    for tool in (
        Tool(functions.caption_regions, "Caption regions", "caption"),
        Tool(functions.match_region, "Match a region with texts", "match"),
        Tool(functions.describe_image, "Describe an image", "caption"),
        Tool(functions.find_region, "Find a region", "explain"),
        Tool(functions.show_region, "Show regions"),
    )
}


def offered(captioner: Any = None) -> list[Tool]:
    """The tools that work with a captioner, such as those of a LLaVA, which only captions; or all.

    captioner: a RegionCaptioner, RegionEncoder or LlavaCaptioner, or what has their methods.
    """
    return [
        tool
        for tool in TOOLS.values()
        if captioner is None or not tool.needs or hasattr(captioner, tool.needs)
    ]


def schemas(form: Format = "openai", captioner: Any = None) -> list[Schema]:
    """What a model has to be told of the tools, in the form that its API takes; JSON values.

    captioner: as in `offered`.

    Raises InputError: no such form.
    """
    if form not in get_args(Format):
        raise InputError(f"format: expected one of {', '.join(get_args(Format))}, found {form!r}")
    return [_written(tool, form) for tool in offered(captioner)]


def call(
    name: str,
    arguments: Mapping[str, Any] | str,
    *,
    captioner: Any = None,
    workspace: Workspace | None = None,
) -> Answer[Any]:
    """Run a tool.

    Args:
        name: of the tool.
        arguments: by name, or a JSON object of such, as OpenAI's API has it.
        captioner: whose methods are called; None loads `mini` the first time, and keeps it.
        workspace: where pictures come from and ids are remembered; None reads files of the current
            folder, and remembers ids for all such calls.

    Raises:
        InputError: no such tool, arguments that can't be used, or a picture that can't be read.
        UserError: whatever the captioner refuses.
    """
    tool = TOOLS.get(name) if isinstance(name, str) else None
    if tool is None:
        raise InputError(f"{name}: no such tool; there are {', '.join(TOOLS)}")
    given = bind(tool.function, _read(arguments) if isinstance(arguments, str) else arguments)
    captioner = captioner or _mini()
    if tool not in offered(captioner):
        raise InputError(
            f"{name}: this model can't {tool.needs}; take one of"
            f" {', '.join(one.name for one in offered(captioner))}"
        )
    try:
        return tool.function(Desk(captioner, workspace or _shared_workspace()), **given)
    except RecursionError as error:
        raise InputError(f"{name}: arguments nested too deeply") from error


def _read(arguments: str) -> Mapping[str, Any]:
    try:
        found = json.loads(arguments)
    except (ValueError, RecursionError) as error:  # or nested too deeply
        raise InputError(f"arguments: expected a JSON object, found other text ({error})") from None
    if not isinstance(found, Mapping):
        raise InputError(f"arguments: expected a JSON object, found {type(found).__name__}")
    return found


def _written(tool: Tool, form: Format) -> Schema:
    about = {"name": tool.name, "description": tool.description}
    if form == "openai":
        return {"type": "function", "function": {**about, "parameters": tool.input_schema}}
    if form == "anthropic":
        return {**about, "input_schema": tool.input_schema}
    if form == "json-schema":
        return {"title": tool.name, "description": tool.description, **tool.input_schema}
    return {
        **about,
        "title": tool.title,
        "inputSchema": tool.input_schema,
        "outputSchema": tool.output_schema,
        "annotations": {"readOnlyHint": True, "openWorldHint": False},
    }


@cache
def _mini() -> Any:
    from regionlm.captioner import RegionCaptioner

    return RegionCaptioner.from_pretrained()


@cache
def _shared_workspace() -> Workspace:
    return Workspace(".")
