"""A captioner, and a folder that an agent may read, with a picture in it."""

import shutil

import pytest

from regionlm import RegionCaptioner
from regionlm.tools import Workspace
from tests.documents import ROOT

EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="session")
def mini():
    return RegionCaptioner.from_pretrained("mini", device="cpu")


@pytest.fixture
def root(tmp_path):
    """A folder inside of tmp_path; what lies beside it is not for agents."""
    folder = tmp_path / "root"
    folder.mkdir()
    for name in ("sand.png", "sand-fox.png", "sand-labels.png"):
        shutil.copy(EXAMPLES / name, folder / name)
    return folder


@pytest.fixture
def workspace(root):
    return Workspace(root)
