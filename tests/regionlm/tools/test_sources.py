"""No path leads an agent out of its folder, and what it gives wrongly is said in one line."""

import base64
import contextlib
import os

import pytest

from regionlm.errors import InputError
from regionlm.tools import sources
from regionlm.tools.sources import read_source


@pytest.fixture
def folder(tmp_path):
    inside = tmp_path / "root"
    (inside / "sub").mkdir(parents=True)
    (inside / "a.png").write_bytes(b"inside")
    (inside / "sub" / "b.png").write_bytes(b"below")
    (tmp_path / "secret.png").write_bytes(b"secret")
    (tmp_path / "root-too").mkdir()
    (tmp_path / "root-too" / "c.png").write_bytes(b"secret")
    (inside / "link.png").symlink_to(tmp_path / "secret.png")
    (inside / "linked").symlink_to(tmp_path)
    (inside / "inner.png").symlink_to(inside / "a.png")
    (inside / "loop").symlink_to(inside / "loop")
    return inside


def read(given, root, most_mib=1):
    return read_source(given, root, most_mib)


@pytest.mark.parametrize(
    ("given", "data"),
    [
        ("a.png", b"inside"),
        ("./a.png", b"inside"),
        ("sub/b.png", b"below"),
        ("sub//b.png", b"below"),
    ],
)
def test_files_in_the_folder(folder, given, data):
    assert read(given, folder) == data
    assert read(str(folder / given), folder) == data


def test_the_folder_may_be_a_link_itself(folder, tmp_path):
    (tmp_path / "alias").symlink_to(folder)
    assert read("a.png", tmp_path / "alias") == b"inside"
    assert read(str(tmp_path / "alias" / "a.png"), tmp_path / "alias") == b"inside"
    assert read(str(folder / "a.png"), tmp_path / "alias") == b"inside"


def test_the_folder_may_be_relative(folder, monkeypatch):
    monkeypatch.chdir(folder)
    from pathlib import Path

    assert read("a.png", Path(".")) == b"inside"
    assert read(str(folder / "a.png"), Path(".")) == b"inside"


@pytest.mark.parametrize(
    "given",
    [
        "../secret.png",
        "sub/../../secret.png",
        "sub/../a.png",
        "..",
        "/etc/passwd",
        "/proc/self/environ",
        "{parent}/secret.png",
        "{parent}/root-too/c.png",
        "{parent}/root/../secret.png",
        "link.png",
        "linked/secret.png",
        "linked/root/a.png",
        "inner.png",
        "loop",
        "loop/a.png",
        "a.png\0",
        "\0/etc/passwd",
        "nowhere/../../secret.png",
    ],
)
def test_nothing_else_is_read(folder, given):
    with pytest.raises(InputError, match="is not a path in the folder that may be read") as caught:
        read(given.format(parent=folder.parent), folder)
    assert "\n" not in str(caught.value)


def test_what_is_outside_is_refused_in_the_same_words_whether_it_exists_or_not(folder):
    said = set()
    for name in ("secret.png", "no-such.png"):
        with pytest.raises(InputError) as caught:
            read(f"../{name}", folder)
        said.add(str(caught.value).replace(name, "X"))
    assert len(said) == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("no.png", "no such file, and no earlier image or mask is remembered by this id"),
        ("image-0123", "no such file, and no earlier image or mask is remembered by this id"),
        ("sub", "is not a file"),
        ("", "is not a file"),
        ("a.png/x", "cannot be read"),
        ("x" * 300, "cannot be read"),
        ("QUJD" * 2000, "put data:image/png;base64, before it"),
        ("https://example.org/a.png", "is an address, and none is fetched"),
        ("file:///etc/passwd", "is an address"),
        ("data:image/png;base64", "expected data:image/png;base64, and then"),
        ("data:image/png;base64,A", "it is neither, or damaged"),
        ("data:image/png;base64,A*==", "it is neither, or damaged"),
        ("data:image/png;base64,", "base64,' is empty"),
    ],
)
def test_what_can_not_be_read(folder, given, message):
    with pytest.raises(InputError, match=message) as caught:
        read(given, folder)
    assert len(str(caught.value)) < 300 + len(given[:300]) and "\n" not in str(caught.value)


@pytest.fixture(params=[True, False], ids=["by folders", "by a check"])
def system(request, monkeypatch):
    """With and without what Windows does not have."""
    if not request.param:
        monkeypatch.setattr(os, "supports_dir_fd", frozenset())


@pytest.mark.usefixtures("system")
@pytest.mark.parametrize("given", ["sub/deep/b.png", "sub/deep/no.png", "sub/deep", "a.png"])
def test_a_link_that_is_put_there_after_the_check_is_not_followed(folder, monkeypatch, given):
    (folder / "sub" / "deep").mkdir()
    (folder / "sub" / "deep" / "b.png").write_bytes(b"below")
    outside = folder.parent / "outside"
    (outside / "deep").mkdir(parents=True)
    for name in ("deep/b.png", "deep/no.png", "b.png"):
        (outside / name).write_bytes(b"secret")
    check = sources._inside

    def checked(*given):
        found = check(*given)
        (folder / "sub").rename(folder.parent / "moved")
        (folder / "sub").symlink_to(outside)
        (folder / "a.png").unlink()
        (folder / "a.png").symlink_to(outside / "b.png")
        return found

    monkeypatch.setattr(sources, "_inside", checked)
    with pytest.raises(InputError, match="cannot be read"):
        read(given, folder)


@pytest.mark.usefixtures("system")
def test_all_systems_read_the_same(folder):
    assert read("sub/b.png", folder) == b"below" and read("a.png", folder) == b"inside"
    for given, message in [("no/b.png", "no such file"), ("sub", "is not a file"), ("", "is not")]:
        with pytest.raises(InputError, match=message):
            read(given, folder)


def opened(folder):
    """What this process has open in a folder; other threads open other files."""
    found = []
    for number in os.listdir("/dev/fd"):
        with contextlib.suppress(OSError):  # closed by now
            found.append(os.readlink(f"/dev/fd/{number}"))
    return [path for path in found if path.startswith(str(folder))]


@pytest.mark.usefixtures("system")
def test_no_descriptor_stays_open(folder):
    with open(folder / "a.png", "rb"):
        assert opened(folder)
    for given in ("sub/b.png", "sub/no.png", "sub", "no/no.png", "a.png/x", "link.png"):
        with contextlib.suppress(InputError):
            read(given, folder)
    assert not opened(folder)


def test_a_folder_that_may_not_be_listed_may_be_passed(folder):
    (folder / "sub").chmod(0o311)
    try:
        assert read("sub/b.png", folder) == b"below"
    finally:
        (folder / "sub").chmod(0o755)


def test_a_pipe_is_not_waited_for(folder):
    os.mkfifo(folder / "pipe")
    with pytest.raises(InputError, match="is not a file"):
        read("pipe", folder)


def test_without_a_folder_no_file_is_read(folder, monkeypatch):
    monkeypatch.chdir(folder)
    for given in ("a.png", str(folder / "a.png")):
        with pytest.raises(InputError, match="files are not read here"):
            read(given, None)


def test_data_uris():
    body = base64.b64encode(b"hello").decode()
    assert read(f"data:image/png;base64,{body}", None) == b"hello"
    assert read(f"DATA:;base64,{body[:3]}\n{body[3:]}", None) == b"hello"
    assert read("data:,hel%6Co", None) == b"hello"


def test_sizes(folder):
    (folder / "large.png").write_bytes(b"x" * (2**20 + 1))
    (folder / "fits.png").write_bytes(b"x" * 2**20)
    assert len(read("fits.png", folder)) == 2**20
    large = "data:;base64," + base64.b64encode(b"x" * (2**20 + 1)).decode()
    for given in ("large.png", large, "data:;base64," + "A" * 2**22):
        with pytest.raises(InputError, match="too large: expected at most 1 MiB"):
            read(given, folder)
