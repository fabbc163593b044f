"""Texts to compare regions with."""

from __future__ import annotations

from collections.abc import Sequence

from regionlm.errors import InputError


def refuse_empty(texts: str | Sequence[str], name: str = "texts") -> None:
    """Raise InputError if a text has no words; ``name``: of the texts, for the message."""
    each = [texts] if isinstance(texts, str) else texts
    if not all(str(text).strip() for text in each):
        raise InputError(f"{name}: expected words, found an empty text")
