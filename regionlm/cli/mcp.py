"""`regionlm mcp`: the tools for an agent that starts us and talks over stdin and stdout."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import redirect_stdout
from dataclasses import asdict

from regionlm.cli.options import McpServing, Model


def mcp(model: Model, serving: McpServing) -> None:
    """Serve the tools for agents over standard input and output, as MCP.

    An agent starts this command by itself, if it is in its configuration: docs/agents.md has it for
    several. It ends when its input is closed. `regionlm serve` has the same tools at /mcp.
    """
    from regionlm.tools import Bounds, Workspace

    options = asdict(serving)
    root, sam = options.pop("root"), options.pop("sam")
    from regionlm.tools.mcp_server import make_server, serve_stdio

    workspace = Workspace(root, Bounds(**options))
    with redirect_stdout(sys.stderr):  # what the client reads on stdout is the protocol alone
        from regionlm.points.segmenter import load_segmenter
        from regionlm.serve.loading import load_model

        if sam is not None:
            workspace.segmenter = load_segmenter(sam, device=model.device, offline=model.offline)
        captioner = load_model(model.model, device=model.device, offline=model.offline)
    import anyio

    # A thread waits for the next line of stdin; nothing but the end of the process stops it.
    before = signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    try:
        anyio.run(serve_stdio, make_server(captioner, workspace))
    finally:
        signal.signal(signal.SIGINT, before)
