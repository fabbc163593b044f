"""The service on a real socket, and OpenAI's own client of it."""

import asyncio
import socket
import threading
from contextlib import contextmanager

import openai
import pytest
import uvicorn

from regionlm.serve.app import create_app
from regionlm.serve.settings import Settings


@contextmanager
def serving(app):
    """The address at which an app is served, in a thread."""
    config = uvicorn.Config(app, log_config=None, lifespan="off", ws="none")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(
            target=lambda: asyncio.run(server.serve(sockets=[listening])), daemon=True
        )
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(60)


@pytest.fixture
def served(engine):
    """Call it with settings for the address of the service, as long as the test runs."""
    opened = []

    def serve(**settings):
        context = serving(create_app(engine, Settings(**settings)))
        opened.append(context)
        return context.__enter__()

    yield serve
    for context in opened:
        context.__exit__(None, None, None)


@pytest.fixture
def chat(served):
    """OpenAI's client, of the service at its usual settings."""
    with openai.OpenAI(api_key="any", base_url=f"{served()}/v1", max_retries=0) as client:
        yield client
