"""One base for what users can cause, and one for doubts; the command line knows only these."""

import pytest

from prefix_models.errors import (
    DoubtWarning,
    PrefixModelError,
    PrefixModelWarning,
    UserError,
    refusing,
    within,
)
from regionlm.cli.flags import UsageError
from regionlm.datasets.data_errors import DataError, DataWarning
from regionlm.errors import InputError, ModelError, ModelWarning
from regionlm.extras import MissingExtraError


@pytest.mark.parametrize(
    "kind", [InputError, ModelError, PrefixModelError, DataError, UsageError, MissingExtraError]
)
def test_errors_are_kinds_of_one(kind):
    assert issubclass(kind, UserError) and issubclass(kind, ValueError)


@pytest.mark.parametrize("kind", [ModelWarning, DataWarning, PrefixModelWarning])
def test_warnings_are_kinds_of_one(kind):
    assert issubclass(kind, DoubtWarning) and issubclass(kind, UserWarning)


@pytest.mark.parametrize(("kind", "found"), [(None, UserError), (PrefixModelError,) * 2])
def test_a_users_error_says_where_it_happened(kind, found):
    with pytest.raises(UserError) as caught, within("a.json", kind):
        raise UserError("bad")
    assert type(caught.value) is found and str(caught.value) == "a.json: bad"


def test_a_librarys_error_becomes_a_users():
    with pytest.raises(PrefixModelError) as caught, refusing(PrefixModelError, "cannot read a"):
        raise KeyError
    assert str(caught.value) == "cannot read a: KeyError"
    with pytest.raises(UserError) as caught, refusing(UserError, "cannot read a", ValueError):
        raise ValueError("first\nsecond")
    assert str(caught.value) == "cannot read a: first"
    with pytest.raises(KeyError), refusing(UserError, "cannot read a", ValueError):
        raise KeyError("bad")
