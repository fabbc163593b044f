"""The bundled benchmark: parts by style of drawing."""

import shutil

import pytest

from regionlm.datasets import open_dataset
from regionlm.datasets.data_errors import DataError
from regionlm.datasets.mini import FOLDER


def _ids(dataset):
    return [int(dataset.id_of(i)) for i in range(len(dataset))]


def test_every_sixth_scene_is_drawn_in_the_held_out_style():
    parts = {style: open_dataset("mini", None, style=style) for style in ("seen", "held_out")}
    held_out = _ids(parts["held_out"])
    assert held_out == list(range(5, 240, 6))
    assert sorted(held_out + _ids(parts["seen"])) == _ids(open_dataset("mini", None))
    assert parts["held_out"][1].id == "11"
    drawn = open_dataset("mini", None, style="held_out", limit=3)
    assert len(drawn) == 3 and set(_ids(drawn)) <= set(held_out)


def test_unknown_styles_are_refused():
    with pytest.raises(DataError, match=r"style.*all, seen, held_out.*'new'"):
        open_dataset("mini", None, style="new")


def test_its_messages_call_it_mini_and_ask_for_no_download(tmp_path):
    with pytest.raises(DataError) as caught:
        open_dataset("mini", tmp_path)
    said = str(caught.value)
    assert said.startswith("mini: missing in") and "phrasecut" not in said.lower()
    assert "refer_test.json" in said and "classes.json" in said
    assert "ships with regionlm" in said and "http" not in said


def test_a_damaged_list_of_classes_is_one_line(tmp_path):
    root = shutil.copytree(FOLDER, tmp_path / "mini")
    (root / "classes.json").write_text("[1, 2]")
    with pytest.raises(DataError, match=r"classes\.json: expected names and phrases"):
        open_dataset("mini", root)
