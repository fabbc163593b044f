"""Fixtures of the datasets."""

from tests.builders import build

__all__ = ["build"]
