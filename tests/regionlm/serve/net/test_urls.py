"""Addresses are taken apart once, and only named hosts pass."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regionlm.serve.net.urls import AllowedHosts, UrlError, read_url


@pytest.mark.parametrize(
    "text, authority, target",
    [
        ("https://Images.Example.org/a%20b.png?w=3#part", "images.example.org", "/a%20b.png?w=3"),
        ("http://images.example.org", "images.example.org", "/"),
        ("http://images.example.org.:80/x", "images.example.org", "/x"),
        ("https://images.example.org:8443//x", "images.example.org:8443", "//x"),
        ("http://[::1]:80/", "[::1]", "/"),
    ],
)
def test_an_address_is_taken_apart(text, authority, target):
    url = read_url(text)
    assert (url.authority, url.target) == (authority, target)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "file:///etc/passwd",
            "ftp://a/b",
            "gopher://a",
            "data:image/png;base64,AA==",
            "",
            "a.png",
        ),
        *("//images.example.org/x", "http://", "http:///x", "http://[::1/x", "http://a:b/x"),
        *("http://a:99999/x", "http://user@a/x", "http://user:word@a/x", "http://a\\@b/x"),
        *("http://a/x y", "http://a/x\r\nHost: b", "http://a/\x00", "http://bücher.example/"),
        *("https://images.example.org@127.0.0.1/", "http://a/é", "http://a/" + 8000 * "x"),
    ],
)
def test_what_is_no_plain_address_is_refused(text):
    with pytest.raises(UrlError, match="url: "):
        read_url(text)


@given(st.text())
def test_any_text_is_an_address_or_refused(text):
    for whole in (text, f"http://{text}", f"https://a/{text}"):
        try:
            url = read_url(whole)
        except UrlError as error:
            assert "\n" not in str(error)
        else:
            assert url.host and url.target.isascii() and url.target.isprintable()


def allows(names, url):
    try:
        AllowedHosts(names).check(read_url(url))
    except UrlError:
        return False
    return True


def test_only_named_hosts_and_their_usual_ports_pass():
    names = ["Images.Example.org", "files.example.org:8080", "bücher.example"]
    good = [
        *("https://images.example.org/x", "http://images.example.org:80/x"),
        *("http://IMAGES.example.org./x", "http://files.example.org:8080/x"),
        "https://xn--bcher-kva.example/x",
    ]
    bad = [
        *("https://example.org/", "https://a.images.example.org/", "https://images.example.org.a/"),
        *("http://images.example.org:8080/", "http://files.example.org/", "http://127.0.0.1/"),
        *("http://2130706433/", "http://0x7f000001/", "http://0177.0.0.1/", "http://[::1]/"),
    ]
    assert [url for url in good if not allows(names, url)] == []
    assert [url for url in bad if allows(names, url)] == []


@pytest.mark.parametrize(
    "name", ["", "*", "*.example.org", "https://a.org", "a.org/x", "u@a.org", "a:b", "a..org"]
)
def test_what_is_no_host_is_refused_at_the_start(name):
    with pytest.raises(UrlError, match="allow_url_hosts"):
        AllowedHosts([name])
