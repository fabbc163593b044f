"""A real `regionlm serve`, and the machine's own Chromium, which talks to it and nobody else."""

import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
ARGUMENTS = [
    "--no-sandbox",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
]
PATIENCE = 120_000  # ms; a loaded machine is slow


@contextmanager
def serving(tmp_path, *options, **environment):
    """A server's process, whose `url` says where it is."""
    command = [sys.executable, "-m", "regionlm", "serve", "--device", "cpu"]
    options = options if "--port" in options else ("--port", "0", *options)
    command += [*options, "--log", str(tmp_path / "log.jsonl")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
    ) as process:
        try:
            said = process.stdout.readline()
            process.url = re.search(r"http://\S+", said)[0]
            yield process
        finally:
            process.kill()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """Address of a server that all tests may ask."""
    with serving(tmp_path_factory.mktemp("server")) as process:
        yield process.url


@pytest.fixture(scope="module")  # of a module: while it runs, no other event loop can
def browser():
    if CHROMIUM is None:
        if os.environ.get("REGIONLM_BROWSER_REQUIRED"):
            pytest.fail("no chromium on this machine, and REGIONLM_BROWSER_REQUIRED is set")
        pytest.skip("no chromium on this machine")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=ARGUMENTS, timeout=PATIENCE
        )
        yield browser
        browser.close()


@pytest.fixture
def visit(browser):
    """Opens a server's page; fails at the end where the page broke, or asked another host."""
    contexts, broken = [], []

    def visit(url, **options):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 860}, **options})
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.on("pageerror", lambda error: broken.append(str(error)))

        def ask(request):
            if not request.url.startswith((url, "data:", "blob:")):
                broken.append(f"another host: {request.url}")

        page.on("request", ask)
        page.goto(url)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not broken


@pytest.fixture
def page(visit, server):
    """The page in a desktop's window."""
    return visit(server)
