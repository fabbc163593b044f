"""Files that are written as text: base64, or a data: URI."""

from __future__ import annotations

import base64
import binascii
from urllib.parse import unquote_to_bytes

from regionlm.errors import InputError


def is_data_uri(text: str) -> bool:
    """Whether a text is a data: URI, rather than a path or base64 alone."""
    return text[:5].lower() == "data:"


def file_bytes(text: str, name: str) -> bytes:
    """The bytes of a file that is given as base64 or as a data: URI; line breaks don't matter.

    Args:
        text: a data: URI may also have its bytes written with %.
        name: how messages call the file.

    Raises:
        InputError: neither of them, damaged, or an empty file.
    """
    head, comma, body = text.partition(",") if is_data_uri(text) else (";base64", ",", text)
    if not comma:
        raise InputError(f"{name}: expected data:image/png;base64, and then the base64")
    is_base64 = head.lower().endswith(";base64")
    data = _decoded(body, name) if is_base64 or not body.isascii() else unquote_to_bytes(body)
    if not data:
        raise InputError(f"{name} is empty (0 bytes)")
    return data


def _decoded(body: str, name: str) -> bytes:
    try:
        return base64.b64decode("".join(body.split()), validate=True)
    except (binascii.Error, ValueError):
        raise InputError(
            f"{name}: expected base64 or a data: URI of it; it is neither, or damaged: encode the"
            " file again"
        ) from None
