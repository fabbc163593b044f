"""The bundled model behind an engine, and a client of the app in front of it."""

import pytest
from fastapi.testclient import TestClient

from regionlm.captioner import RegionCaptioner
from regionlm.serve.app import create_app
from regionlm.serve.engine import Engine
from regionlm.serve.net import log_lines


@pytest.fixture(autouse=True)
def logs_are_written_to_their_end(monkeypatch):
    """However long the machine stalls; a service gives up after a moment."""
    monkeypatch.setattr(log_lines, "_CLOSING_SECONDS", 60)


@pytest.fixture(scope="session")
def mini():
    """The bundled model: what the service must agree with."""
    return RegionCaptioner.from_pretrained("mini", device="cpu")


@pytest.fixture
def engine(mini):
    """An engine with the bundled model and the limits of `limits`."""
    engine = Engine(mini)
    yield engine
    engine.close()


@pytest.fixture
def client(engine):
    """A client of the app, in this process."""
    with TestClient(create_app(engine), raise_server_exceptions=False) as client:
        yield client
