"""What our calls cause is told from what libraries do among themselves."""

import logging
import types
import warnings

import pytest

from tests import deprecations


def library(name: str, **others: object) -> types.ModuleType:
    """A module of another package, with a deprecated function and one that calls `others`."""
    module = types.ModuleType(name)
    module.__dict__.update(others, warnings=warnings, logging=logging)
    code = (
        "def old():\n    warnings.warn('old is deprecated', FutureWarning)\n"
        "def logs():\n    logging.getLogger('transformers.x').warning('logs is deprecated')\n"
        "def passes_on(call):\n    call()\n"
    )
    exec(compile(code, f"{name}.py", "exec"), module.__dict__)
    return module


@pytest.fixture(autouse=True)
def nothing_deprecated_is_called():
    """Here it is called on purpose."""


@pytest.fixture
def found():
    with deprecations.recorded() as found, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield found


def test_ours_are_found(found):
    library("somelib.part").old()
    assert found == ["FutureWarning: old is deprecated"]


def test_ours_through_a_module_call_of_torch_are_found(found):
    library("torch.nn.modules.module").passes_on(library("somelib.part").old)
    assert found == ["FutureWarning: old is deprecated"]


def test_those_between_libraries_are_not(found):
    library("otherlib").passes_on(library("somelib.part").old)
    assert found == []


def test_logged_ones_are_found(found):
    library("transformers.x").logs()
    assert found == ["transformers.x: logs is deprecated"]


def test_other_warnings_are_none_of_it(found):
    warnings.warn("careful", UserWarning, stacklevel=1)
    assert found == []
