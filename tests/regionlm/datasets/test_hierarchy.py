import json

import pytest

from regionlm.datasets.data_errors import DataError
from regionlm.datasets.hierarchy import read_relatives
from regionlm.datasets.openimages import OpenImages

pytestmark = pytest.mark.filterwarnings("ignore::regionlm.datasets.data_errors.DataWarning")

# In the published form: one root that is no class, kinds of kinds, parts with kinds of their own,
# and a class in two places.
TREE = {
    "LabelName": "/m/0bl9f",
    "Subcategory": [
        {
            "LabelName": "person",
            "Subcategory": [{"LabelName": "man"}, {"LabelName": "woman"}],
            "Part": [{"LabelName": "body", "Subcategory": [{"LabelName": "arm"}]}],
        },
        {
            "LabelName": "animal",
            "Subcategory": [
                {"LabelName": "mammal", "Subcategory": [{"LabelName": "cat"}]},
                {"LabelName": "pet", "Subcategory": [{"LabelName": "cat"}]},
            ],
        },
    ],
}


@pytest.fixture
def tree(tmp_path):
    path = tmp_path / "bbox_labels_600_hierarchy.json"
    path.write_text(json.dumps(TREE))
    return path


def test_kinds_at_any_depth_are_relatives_and_parts_are_not(tree):
    mids = ["cat", "person", "animal", "woman", "body", "arm", "elsewhere", "pet"]
    found = read_relatives(tree, mids)
    named = {
        mid: {mids[label] for label in labels} for mid, labels in zip(mids, found, strict=True)
    }
    assert named == {
        "cat": {"animal", "pet"}, "person": {"woman"}, "animal": {"cat", "pet"},
        "woman": {"person"}, "body": {"arm"}, "arm": {"body"}, "elsewhere": set(),
        "pet": {"cat", "animal"},
    }  # fmt: skip


@pytest.mark.parametrize("text", ["", "[]", '{"Subcategory": []}', '{"LabelName": "x"}', "\xff"])
def test_another_file_is_an_error(text, tree):
    tree.write_text(text, encoding="latin1")
    with pytest.raises(DataError, match=r"bbox_labels_600_hierarchy\.json: "):
        read_relatives(tree, ["cat", "animal"])


def test_open_images_takes_the_file_beside_its_annotations(build, tree):
    root = build.openimages()
    assert OpenImages(root).relatives == ()
    kinds = {"LabelName": "/m/01g317", "Subcategory": [{"LabelName": "/m/04yx4"}]}  # a man
    (root / tree.name).write_text(json.dumps(kinds))
    dataset = OpenImages(root)
    assert dataset.relatives == ({1}, {0})
    assert root / tree.name in dataset.annotations
    with pytest.raises(DataError, match="no two of the 2 classes"):
        OpenImages(root, hierarchy=tree)
    with pytest.raises(DataError, match=r"expected the file .*none\.json"):
        OpenImages(root, hierarchy=root / "none.json")
