"""Members of tar files: the same as `tarfile` finds, in little memory."""

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regionlm.inputs import tar_members as module
from regionlm.inputs.tar_members import tar_members
from tests.memory import least_traced

KINDS = {"file": tarfile.REGTYPE, "folder": tarfile.DIRTYPE, "link": tarfile.SYMTYPE}
MEMBERS = st.lists(
    st.tuples(
        st.text("aé☃/.", min_size=1, max_size=12),
        st.sampled_from([1, 1, 1, 20]),  # names of this many times the text need a header more
        st.sampled_from([*KINDS]),
        st.sampled_from([0, 1, 511, 512, 513, 3000]),
    ),
    max_size=12,
)


def _write(path, members, kind):
    with tarfile.open(path, "w", format=kind) as file:
        for number, (name, times, type_, size) in enumerate(members):
            info = tarfile.TarInfo(f"{name * times}{number}")
            info.type, info.mtime = KINDS[type_], 0.5  # which PAX writes down on its own
            info.size = size if type_ == "file" else 0
            file.addfile(info, io.BytesIO(bytes([number % 256]) * info.size))


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@given(members=MEMBERS, together=st.integers(1, 5))
def test_members_are_those_of_tarfile(kind, members, together, tmp_path_factory):
    path = tmp_path_factory.mktemp("tar") / "a.tar"
    _write(path, members, kind)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_TOGETHER", together)
        found = [(one.name, one.type, one.size, start) for one, start in tar_members(path)]
    with tarfile.open(path) as file:
        wanted = [(one.name, one.type, one.size, one.offset_data) for one in file]
    assert found == wanted and len(found) == len(members)
    data = path.read_bytes()
    for number, (_, _, size, start) in enumerate(found):
        assert data[start : start + size] == bytes([number]) * size


def test_memory_does_not_grow_with_the_members(tmp_path, monkeypatch):
    count = 3000
    _write(tmp_path / "a.tar", [("a", 1, "file", 1)] * count, tarfile.PAX_FORMAT)

    def peak(together):
        monkeypatch.setattr(module, "_TOGETHER", together)
        found, _, most = least_traced(lambda: sum(1 for _ in tar_members(tmp_path / "a.tar")))
        assert found == count
        return most

    few, all_ = peak(100), peak(count)
    assert few < all_ / 8


@pytest.mark.parametrize("content", [b"no tar" * 200, b"no tar", b""])
def test_something_else_is_refused(content, tmp_path):
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(tarfile.TarError):
        list(tar_members(tmp_path / "a.tar"))
