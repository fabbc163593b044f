"""`regionlm mcp`: the tools for an agent that starts us and talks over stdin and stdout."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from prefix_models.errors import UserError
from regionlm.cli.options import McpServing, ModelRun
from regionlm.cli.parser import naming_options


def mcp(model: ModelRun, serving: McpServing) -> None:
    """Serve the tools for agents over standard input and output, as MCP.

    An agent starts this command by itself, if it is in its configuration: docs/agents.md has it for
    several. It ends when its input is closed. `regionlm serve` has the same tools at /mcp.
    """
    from regionlm.tools import Bounds, Workspace

    options = asdict(serving)
    root, sam = options.pop("root"), options.pop("sam")
    workspace = Workspace(root, Bounds(**options))
    from regionlm.tools.mcp_server import serve_stdio

    def load() -> Any:
        with _ending_on_mistakes(), naming_options(mcp):
            from regionlm.points.segmenter import load_segmenter
            from regionlm.serve.loading import load_model

            device, offline = model.device, model.offline
            if sam is not None:
                workspace.segmenter = load_segmenter(sam, device=device, offline=offline)
            return load_model(model.model, trunk=model.trunk, device=device, offline=offline)

    import anyio

    before = signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    try:
        anyio.run(serve_stdio, load, workspace)
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _ending_on_mistakes() -> Iterator[None]:
    """End the process when the model can't be used, as main does.

    At once, as on Ctrl-C: a thread waits for the next line of stdin, and nothing else stops it.
    """
    try:
        yield
    except UserError as error:
        print("regionlm: error:", " ".join(str(error).split()), file=sys.stderr, flush=True)
        os._exit(2)
