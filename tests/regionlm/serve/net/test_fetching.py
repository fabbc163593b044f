"""Images are fetched from named public hosts, and no trick leads anywhere else."""

import asyncio
import time

import pytest

from regionlm.serve.errors import TooLateError
from regionlm.serve.net.fetching import Room, UrlFetcher, look_up
from regionlm.serve.net.urls import UrlError
from tests.regionlm.serve.net.image_host import NAME, PUBLIC, ImageHost, fetch, says

URL = f"http://{NAME}/a.png?size=3"


def refused(host, url=URL, hosts=(NAME,), **options):
    """The one line with which fetching is refused."""
    with pytest.raises(UrlError) as caught:
        fetch(host, url, hosts, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_image_is_fetched_from_the_checked_address_by_its_name():
    host = ImageHost(says(200, b"picture"))
    assert fetch(host, URL) == b"picture"
    assert host.connected == [(PUBLIC, 80)] and host.looked_up == [NAME]
    (asked,) = host.requests
    assert asked.startswith("GET /a.png?size=3 HTTP/1.1\r\n") and f"Host: {NAME}\r\n" in asked


def test_without_named_hosts_nothing_is_fetched():
    host = ImageHost(says(200, b"picture"))
    assert "fetches no addresses" in refused(host, hosts=())
    assert host.looked_up == []


def test_other_hosts_are_not_even_looked_up():
    host = ImageHost(says(200, b"picture"))
    assert "fetches nothing from other.example.org" in refused(host, "http://other.example.org/")
    assert host.looked_up == []


@pytest.mark.parametrize(
    "addresses",
    [
        *(["127.0.0.1"], ["10.0.0.7"], ["169.254.169.254"], ["::1"], ["fe80::1%2"], ["fd00::1"]),
        *(["::ffff:127.0.0.1"], ["::ffff:93.184.216.34"], ["64:ff9b::7f00:1"], ["0.0.0.0"]),
        *([PUBLIC, "127.0.0.1"], ["not an address"]),
    ],
)
def test_a_named_host_with_an_address_that_is_not_public_is_refused(addresses):
    host = ImageHost(says(200, b"picture"))
    host.names[NAME] = addresses
    assert "not on the public internet" in refused(host)
    assert host.connected == []


def test_a_name_that_changes_its_address_after_the_check_gains_nothing():
    host = ImageHost(says(200, b"picture"))
    answers = [[PUBLIC], ["127.0.0.1"]]
    host.names[NAME] = lambda: answers.pop(0)
    assert fetch(host, URL) == b"picture"
    assert host.connected == [(PUBLIC, 80)] and len(answers) == 1


def test_a_name_that_changes_its_address_before_a_redirect_is_checked_again():
    host = ImageHost(says(302, location="/again"))
    answers = [[PUBLIC], ["127.0.0.1"]]
    host.names[NAME] = lambda: answers.pop(0)
    assert "not on the public internet" in refused(host)
    assert host.connected == [(PUBLIC, 80)]


@pytest.mark.parametrize(
    "place",
    [
        *("http://127.0.0.1/", "http://127.0.0.1:{port}/", "//127.0.0.1/", "http://localhost/"),
        *("http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://2130706433/", "http://127.1/"),
        *("http://0x7f000001/", "http://0177.0.0.1/", f"http://{NAME}:22/", "http://other.org/"),
        *("file:///etc/passwd", "gopher://127.0.0.1/", f"http://{NAME}@127.0.0.1/", "http://[/"),
        f"http://127.0.0.1\\@{NAME}/",
    ],
)
def test_a_redirect_to_anywhere_else_is_refused(place):
    host = ImageHost(says(302, location=place))
    refused(host)
    assert host.connected == [(PUBLIC, 80)]


def test_a_redirect_to_another_named_host_is_followed():
    other = "files.example.org"

    async def reply(writer, asked):
        moved = f"Host: {NAME}" in asked
        await says(*((307,) if moved else (200, b"there")), location=f"http://{other}/b")(
            writer, asked
        )

    host = ImageHost(reply)
    host.names[other] = [PUBLIC]
    assert fetch(host, URL, [NAME, other]) == b"there"
    assert host.looked_up == [NAME, other]


def test_a_redirect_from_https_to_http_is_refused(tls_of):
    server, trusting = tls_of(NAME)
    host = ImageHost(says(302, location=f"http://{NAME}/b"), tls=server)
    assert "from https to http" in refused(host, f"https://{NAME}/a.png", tls=trusting)
    assert host.connected == [(PUBLIC, 443)]


def test_a_request_has_less_time_and_room_than_the_fetcher():
    async def run(**bounds):
        host = ImageHost(says(200, b"picture"))
        async with host.running():
            return await host.fetcher().fetch(URL, **bounds)

    room = Room(13)
    assert asyncio.run(run(deadline=time.monotonic() + 60, room=room)) == b"picture"
    with pytest.raises(UrlError, match="at most 13 bytes in all images of a request"):
        asyncio.run(run(room=room))
    with pytest.raises(TooLateError):
        asyncio.run(run(deadline=time.monotonic() - 1))


async def never(writer, asked):
    await asyncio.sleep(60)


def test_whose_time_is_over_is_told_apart():
    async def run(host, **options):
        async with host.running():
            await host.fetcher(seconds=0.2).fetch(URL, **options)

    for deadline in (None, time.monotonic() + 60):
        with pytest.raises(UrlError, match=r"not fetched within 0\.2 seconds"):
            asyncio.run(run(ImageHost(never), deadline=deadline))
    with pytest.raises(TooLateError):
        asyncio.run(run(ImageHost(never), deadline=time.monotonic() + 0.1))


def test_redirects_end():
    assert "more than 3 redirects" in refused(ImageHost(says(301, location="/")))
    refused(ImageHost(says(301)))


@pytest.mark.parametrize(
    "written", ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "localhost"]
)
def test_loopback_is_refused_however_it_is_written_and_even_if_named(written):
    async def run():
        await UrlFetcher([written], most_bytes=10).fetch(f"http://{written}/")

    with pytest.raises(UrlError, match=r"not on the public internet|no address"):
        asyncio.run(run())


def test_the_systems_lookup_gives_addresses():
    assert set(asyncio.run(look_up("localhost", 80))) <= {"127.0.0.1", "::1"}


def test_size_is_bounded_whatever_the_headers_say():
    message = "at most 1000 bytes"
    assert message in refused(ImageHost(says(200, bytes(1001))))

    async def endless(writer, asked):
        writer.write(b"HTTP/1.1 200 x\r\n\r\n")
        while True:
            writer.write(bytes(1000))
            await writer.drain()

    assert message in refused(ImageHost(endless))
    assert fetch(ImageHost(says(200, bytes(1000))), URL) == bytes(1000)


def test_time_is_bounded_for_all_of_it():
    async def slow(writer, asked):
        while True:  # a byte now and then, so that no single wait is long
            writer.write(b"x" if writer.transport.get_write_buffer_size() == 0 else b"")
            await writer.drain()
            await asyncio.sleep(0.02)

    assert "not fetched within 0.3 seconds" in refused(ImageHost(slow), seconds=0.3)


@pytest.mark.parametrize(
    "reply, message",
    [
        (says(404, b"no"), "answered 404"),
        (says(204), "answered 204"),
        (says(200, b"x", content_encoding="gzip"), "compressed"),
        (says(200, b"x", transfer_encoding="chunked"), "could not be asked"),
    ],
)
def test_other_replies_are_refused(reply, message):
    assert message in refused(ImageHost(reply))


@pytest.mark.parametrize(
    "start", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 x\r\ncontent-length: 9\r\n\r\nx"]
)
def test_a_reply_that_is_none_or_cut_off_is_refused(start):
    async def reply(writer, asked):
        writer.write(start)
        await writer.drain()

    assert "could not be asked" in refused(ImageHost(reply))


def test_an_unknown_name_and_a_closed_port_are_refused():
    host = ImageHost(says(200, b"x"))
    host.names.clear()
    assert "no address" in refused(host)

    async def closed():
        async def connect(address, port):
            raise ConnectionRefusedError

        async def resolve(host, port):
            return [PUBLIC]

        fetcher = UrlFetcher([NAME], most_bytes=9, resolve=resolve, connect=connect)
        await fetcher.fetch(URL)

    with pytest.raises(UrlError, match="could not be asked"):
        asyncio.run(closed())


def test_over_tls_the_certificate_must_be_the_names(tls_of):
    asked = []
    server, client = tls_of(NAME)
    server.sni_callback = lambda _, name, __: asked.append(name)
    url = URL.replace("http:", "https:")
    host = ImageHost(says(200, b"picture"), server)
    assert fetch(host, url, tls=client) == b"picture"
    assert asked == [NAME] and host.connected == [(PUBLIC, 443)]
    assert "could not be asked" in refused(ImageHost(says(200, b"x"), server), url)  # not trusted

    another, client = tls_of("other.example.org")
    assert "could not be asked" in refused(ImageHost(says(200, b"x"), another), url, tls=client)
