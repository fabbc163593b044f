"""The tools as an MCP server, for any transport; and over standard input and output.

The server is the SDK's `Server`, not its `MCPServer`: that one would make schemas of its own, and
put several lines of pydantic's before an agent where ours has one.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeAlias

from prefix_models.errors import UserError
from regionlm.extras import extra
from regionlm.tools.answers import Answer
from regionlm.tools.registry import call, schemas
from regionlm.tools.workspace import Workspace

with extra("mcp"):
    import anyio
    from mcp import types
    from mcp.server import Server, ServerRequestContext
    from mcp.server.stdio import stdio_server

INSTRUCTIONS = (
    "Looks at regions of images: boxes [x0, y0, x1, y1] in pixels, masks or polygons. Each answer"
    " begins with the image's id; give it instead of the image the next time. If you don't know"
    " where something is, ask find_region or describe_image first."
)

Work: TypeAlias = Callable[[Any], Answer[Any]]
"""A call of a tool, made of a captioner; it takes its time."""

_log = logging.getLogger(__name__)


def _is_fault(error: Exception) -> bool:
    return not isinstance(error, UserError)


def make_server(
    load: Callable[[], Any],
    workspace: Workspace,
    *,
    run: Callable[[Work], Awaitable[Answer[Any]]] | None = None,
    is_fault: Callable[[Exception], bool] = _is_fault,
) -> Server[Any]:
    """A server of the tools that a captioner can answer.

    Args:
        load: gives the captioner: a RegionCaptioner, RegionEncoder or LlavaCaptioner, which decides
            on the tools. Called on threads, for each request, and may take long.
        workspace: where pictures come from; all clients of the server share its ids.
        run: does a call on a thread, of what has the captioner's methods; None: of the captioner,
            one call at a time, as captioners allow no more.
        is_fault: whether an error is the server's own, which is logged and not shown.
    """
    run = run or _one_at_a_time(load)

    async def list_tools(
        _: ServerRequestContext, __: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        able = await anyio.to_thread.run_sync(load)
        tools = [types.Tool.model_validate(one) for one in schemas("mcp", able)]
        return types.ListToolsResult(tools=tools)

    async def call_tool(
        _: ServerRequestContext, asked: types.CallToolRequestParams
    ) -> types.CallToolResult:
        def work(captioner: Any) -> Answer[Any]:
            return call(asked.name, asked.arguments or {}, captioner=captioner, workspace=workspace)

        try:
            return _result(await run(work))
        except Exception as error:
            if not is_fault(error):
                return _refusal(" ".join(str(error).split()))
            _log.exception("tool %r", asked.name)
            return _refusal(f"{asked.name} failed: a fault of the server, whose log says more")

    return Server(
        "regionlm",
        version=_version(),
        instructions=INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


async def serve_stdio(load: Callable[[], Any], workspace: Workspace) -> None:
    """Answer one client on standard input and output until it closes them.

    Whatever else is written to standard output meanwhile goes to standard error.

    Args:
        load: as for `make_server`; called once, at once, so that the client is greeted while the
            model is loaded.
        workspace: as there.
    """
    async with stdio_server() as (incoming, outgoing):
        with ThreadPoolExecutor(1) as loading:
            server = make_server(loading.submit(load).result, workspace)
            await server.run(incoming, outgoing, server.create_initialization_options())


def _one_at_a_time(load: Callable[[], Any]) -> Callable[[Work], Awaitable[Answer[Any]]]:
    limiter = anyio.CapacityLimiter(1)

    async def run(work: Work) -> Answer[Any]:
        return await anyio.to_thread.run_sync(lambda: work(load()), limiter=limiter)

    return run


def _result(answer: Answer[Any]) -> types.CallToolResult:
    pictures = [
        types.ImageContent(type="image", data=base64.b64encode(one).decode(), mime_type="image/png")
        for one in answer.pictures
    ]
    text = types.TextContent(type="text", text=answer.text)
    return types.CallToolResult(content=[text, *pictures], structured_content=answer.structured)


def _refusal(why: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(type="text", text=why)], is_error=True)


def _version() -> str:
    try:
        return version("regionlm")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return ""
