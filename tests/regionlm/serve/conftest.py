"""The bundled model behind an engine, and a client of the app in front of it."""

import pytest
from fastapi.testclient import TestClient

from regionlm.captioner import RegionCaptioner
from regionlm.serve.app import create_app
from regionlm.serve.engine import Engine


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
