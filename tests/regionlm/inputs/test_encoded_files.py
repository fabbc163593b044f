"""Base64 and data: URIs are read in one way, whoever sends them."""

import base64

import pytest

from regionlm.errors import InputError
from regionlm.inputs.encoded_files import file_bytes, is_data_uri

BODY = base64.b64encode(b"hello").decode()


@pytest.mark.parametrize(
    "text",
    [
        BODY,
        f"{BODY[:3]}\n {BODY[3:]}",
        f"data:image/png;base64,{BODY}",
        f"DATA:;BASE64,{BODY[:3]}\r\n{BODY[3:]}",
        "data:,hel%6Co",
    ],
)
def test_all_ways_of_writing_a_file(text):
    assert file_bytes(text, "image") == b"hello"
    assert is_data_uri(text) == (text[:5].lower() == "data:")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data:image/png;base64", "image: expected data:image/png;base64, and then the base64"),
        ("data:image/png;base64,A", "image: expected base64 or a data: URI of it; it is neither"),
        ("A*==", "image: expected base64 or a data: URI of it; it is neither, or damaged"),
        ("\u00e4", "image: expected base64"),
        ("", "image is empty"),
        ("data:image/png;base64,", "image is empty"),
        ("data:,", "image is empty"),
    ],
)
def test_what_is_no_file(text, message):
    with pytest.raises(InputError) as caught:
        file_bytes(text, "image")
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)
