"""What can be wrong with the data of an evaluation: kinds of errors that the datasets have, too."""

from regionlm.datasets.errors import DataError, DataWarning, check_choice, within

__all__ = ["DataError", "DataWarning", "check_choice", "within"]
