import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regionlm.datasets import json_records
from regionlm.datasets.data_errors import DataError
from regionlm.datasets.json_records import TableBuilder, scan
from tests.memory import least_traced

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("records") / "file.json"


@pytest.fixture(scope="module", autouse=True)
def small_chunks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_records, "CHUNK", 7)
        yield


def reread(file, key=None):
    builder = TableBuilder()
    for record in scan(file):
        if key in (None, record.key):
            builder.add(3, record)
    return builder.table().of_image(3)


@given(items=st.lists(values, max_size=6), indent=st.sampled_from([None, 1]), plain=st.booleans())
def test_a_list_is_read_as_json_reads_it_in_one_pass_and_again_by_place(file, items, indent, plain):
    file.write_text(json.dumps(items, indent=indent, ensure_ascii=plain), encoding="utf-8")
    assert [record.value for record in scan(file)] == items
    assert reread(file) == items


@given(whole=st.dictionaries(st.text(), st.lists(values, max_size=4) | values, max_size=4))
def test_an_object_gives_the_items_of_its_lists(file, whole):
    file.write_text(json.dumps(whole, ensure_ascii=False), encoding="utf-8")
    lists = {key: value for key, value in whole.items() if isinstance(value, list)}
    expected = [(key, item) for key, value in lists.items() for item in value]
    assert [(record.key, record.value) for record in scan(file)] == expected
    for key, value in lists.items():
        assert reread(file, key) == value


@pytest.mark.parametrize("number", ["0.5", "12e+3", "1E-2", "-1.25", "123456789012"])
@pytest.mark.parametrize("blanks", range(9))
def test_a_number_across_the_border_of_chunks_is_read_whole(file, number, blanks):
    file.write_text("[" + blanks * " " + number + "]")
    assert [record.value for record in scan(file)] == [json.loads(number)]


def test_raw_control_characters_and_a_byte_order_mark_are_taken(file):
    file.write_bytes(b"\xef\xbb\xbf" + '[{"phrase": "a\x00\tcaf\u00e9"}]'.encode())
    assert [record.value for record in scan(file)] == [{"phrase": "a\x00\tcaf\u00e9"}]
    assert reread(file) == [{"phrase": "a\x00\tcaf\u00e9"}]


WHOLE = '{"info": {"year": 2017}, "images": [{"id": 12}, {"id": 345}], "more": [1, 2]}'


@given(st.integers(0, len(WHOLE) - 1))
def test_a_file_that_is_cut_off_is_an_error_that_names_it(file, length):
    file.write_text(WHOLE[:length])
    with pytest.raises(DataError, match=r"file\.json is not the JSON expected \(byte \d+: "):
        list(scan(file))


BAD = [
    '"text"',
    "7",
    "",
    "[1 2]",
    "[1,]",
    "[,]",
    '{"a" 1}',
    '{"a": [1}',
    '{"a": 1,}',
    "[x]",
    "[1] 2",
]


@pytest.mark.parametrize("content", BAD)
def test_anything_else_is_an_error(file, content):
    file.write_text(content)
    with pytest.raises(DataError, match="not the JSON expected"):
        list(scan(file))


def test_bytes_that_are_no_utf8_are_an_error(file):
    file.write_bytes(b'["caf\xe9"]')
    with pytest.raises(DataError, match="not JSON in UTF-8"):
        list(scan(file))


def test_records_are_grouped_by_image_in_file_order(file):
    images = [5, 2, 5, 9, 2, 5]
    file.write_text(json.dumps([[image, i] for i, image in enumerate(images)]))
    builder = TableBuilder()
    for record in scan(file):
        builder.add(record.value[0], record)
    assert builder.image_ids() == [5, 2, 9]
    table = pickle.loads(pickle.dumps(builder.table()))
    assert table.of_image(5) == [[5, 0], [5, 2], [5, 5]]
    assert table.of_image(2) == [[2, 1], [2, 4]]
    assert table.of_image(3) == []


def test_a_file_that_changed_after_opening_is_an_error(file):
    file.write_text('[{"a": 1}]')
    builder = TableBuilder()
    for record in scan(file):
        builder.add(0, record)
    file.write_text('{"a": 1} ]')
    with pytest.raises(DataError, match="changed after it was opened"):
        builder.table().of_image(0)


def test_scanning_takes_the_memory_of_a_chunk_and_not_of_the_file(file, monkeypatch):
    monkeypatch.setattr(json_records, "CHUNK", 1 << 15)
    polygon = [[i + 0.25, i + 0.75] for i in range(100)]
    record = json.dumps({"image_id": 1, "Polygons": [[polygon]]})
    file.write_text("[" + ", ".join([record] * 1000) + "]")
    size = file.stat().st_size

    def scanned():
        builder = TableBuilder()
        for found in scan(file):
            builder.add(1, found)
        return builder.table()

    table, _, peak = least_traced(scanned)
    assert len(table.images) == 1000
    assert peak < size / 3, (peak, size)
    assert len(pickle.dumps(table)) < size / 20
