"""Parquet as manifest and as output."""

import json
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from regionlm.bulk import parquet_rows
from regionlm.bulk.items import Pictures
from regionlm.bulk.opening import open_manifest
from regionlm.bulk.parquet_output import columns, write_parquet
from regionlm.errors import InputError
from regionlm.inputs.json_lines import without_nulls

from .whole_runs import Run, Write, read_output

BOX = [{"box": [0, 0, 9, 9]}]


def table(path: Path, rows: list[dict], **how: object) -> Path:
    """Write rows to a Parquet file."""
    pq.write_table(pa.Table.from_pylist(rows), path, **how)
    return path


@pytest.mark.parametrize("kind", ["paths", "bytes", "objects", "JSON"])
def test_captions_are_those_of_the_same_lines(
    kind: str, run: Run, write: Write, lines: list[dict], data: Path, output: Path, tmp_path: Path
) -> None:
    lines[5]["regions"] = lines[5]["regions"][:1]  # a column's polygons are all of one form
    run(write(lines), tmp_path / "plain")
    rows = [{**line, "url": "not read"} for line in lines]
    for row in rows:
        pixels = (data / row["image"]).read_bytes()
        if kind == "bytes":
            row["image"] = pixels
        elif kind == "objects":
            row["image"] = {"bytes": pixels, "path": row["image"]}
        elif kind == "JSON":
            row["regions"] = json.dumps(row["regions"])
    run(table(data / "a.parquet", rows), output)
    found, wanted = read_output(output), read_output(tmp_path / "plain")
    if kind == "bytes":
        assert found[2]["image"] == "a.parquet/3"
        found = [{**line, "image": one["image"]} for line, one in zip(found, wanted, strict=True)]
    assert found == wanted


def test_parquet_holds_what_json_lines_hold(
    run: Run, write: Write, lines: list[dict], output: Path, tmp_path: Path
) -> None:
    lines[1]["regions"][0] = {"box": [0, 0, 400, 20]}
    lines[4]["image"] = "none.png"
    options = ["--speed", "fast", "--skip_bad"]
    run(write(lines), output, *options)
    said = run(write(lines), tmp_path / "out.parquet", *options)
    assert "; 2 skipped" in said
    found = pq.read_table(tmp_path / "out.parquet")
    assert found.schema.field("id").type == pa.int64()
    assert [without_nulls(row) for row in found.to_pylist()] == read_output(output)
    assert not (tmp_path / "out.parquet.parts").exists()


def test_figures_without_a_value_are_null(
    run: Run, write: Write, lines: list[dict], tmp_path: Path
) -> None:
    lines[0]["id"] = "first"
    run(write(lines), tmp_path / "out.parquet", "--embedder", "crop")
    found = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["id"] for row in found] == ["first", *"234567"]
    region = found[0]["regions"][0]
    assert region["dice"] is None and region["error"] is None and region["logprob"] < 0


def test_a_stopped_run_goes_on(
    run: Run, refused: Run, write: Write, lines: list[dict], data: Path, tmp_path: Path
) -> None:
    run(write(lines), tmp_path / "whole.parquet")
    (data / "6.png").rename(data / "hidden")
    refused(data / "m.jsonl", tmp_path / "out.parquet")
    (data / "hidden").rename(data / "6.png")
    assert "; 6 images were done before" in run(data / "m.jsonl", tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet") == pq.read_table(tmp_path / "whole.parquet")


def test_names_that_are_not_unicode(tmp_path: Path) -> None:
    answers = [{"id": 2**70, "image": "a\udcff.png", "regions": []}]
    with (tmp_path / "a.parquet").open("wb") as stream:
        write_parquet(stream, columns(answers), answers)
    [row] = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert row["id"] == str(2**70) and row["image"] == "a\\udcff.png"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"image": "0.png", "regions": None}, "regions: expected a list of at least one"),
        ({"image": "0.png", "regions": [{"box": [1.0]}]}, "box: expected [x0, y0, x1, y1]"),
        ({"image": "0.png", "regions": [{"box": None}]}, "a region has exactly one of"),
    ],
)
def test_a_row_of_another_form(row: dict, message: str, data: Path) -> None:
    good = {"image": "0.png", "regions": BOX}
    path = table(data / "a.parquet", [good, row])
    with pytest.raises(InputError) as caught:
        open_manifest(path)
    assert str(caught.value).startswith(f"{path}, row 2: ") and message in str(caught.value)
    pictures = Pictures(open_manifest(path, skip_bad=True), skip_bad=True)
    assert pictures[0].image.size == (40, 30)
    with pytest.raises(InputError) as caught:
        pictures[1]
    assert message in pictures.unreadable(1, caught.value)["error"]


def test_rows_without_an_image(data: Path) -> None:
    path = table(data / "a.parquet", [{"image": None, "regions": BOX} for _ in range(2)])
    with pytest.raises(InputError, match=r"a\.parquet, row 1: image: expected the path"):
        Pictures(open_manifest(path), skip_bad=False)[0]


def test_other_files(data: Path, tmp_path: Path, refused: Run, output: Path) -> None:
    (data / "bad.parquet").write_text("no")
    assert "bad.parquet: expected a Parquet file" in refused(data / "bad.parquet", output)
    table(data / "a.parquet", [{"picture": "0.png", "regions": BOX}])
    said = refused(data / "a.parquet", output)
    assert "expected a column image, found picture, regions" in said
    table(data / "a.parquet", [{"image": "0.png", "regions": BOX, "id": "a"}] * 2)
    assert "row 2: expected ids that differ, found 'a'" in refused(data / "a.parquet", output)
    pq.write_table(
        pa.table({"image": pa.array([], pa.string()), "regions": []}), data / "a.parquet"
    )
    assert "expected rows, found none" in refused(data / "a.parquet", output)


def test_rows_are_found_in_any_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_rows, "_TOGETHER", 3)
    files, first = [], 0
    for number, (count, group) in enumerate([(20, 7), (0, 1), (11, 20)]):
        rows = pa.table({"n": np.arange(first, first + count), "image": [b"x" * 9] * count})
        files.append(tmp_path / f"{number}.parquet")
        pq.write_table(rows, files[-1], row_group_size=group)
        first += count
    order = [*range(31), 4, 3, 30, 0, *np.random.default_rng(0).permutation(31).tolist()]
    names = ("n", "none")
    found = [parquet_rows.read_row(tuple(files), names, one, "")["n"] for one in order]
    assert found == order


def test_files_that_are_replaced_are_read_anew(data: Path) -> None:
    for name in ("0.png", "1.png"):
        path = table(data / "a.parquet", [{"image": name, "regions": BOX}] * 3)
        manifest = pickle.loads(pickle.dumps(open_manifest(path)))
        assert manifest[2].image == name
