"""One base for what users can cause, and one for doubts; the command line knows only these."""

import pytest

from prefix_models.errors import DoubtWarning, PrefixModelError, PrefixModelWarning, UserError
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
