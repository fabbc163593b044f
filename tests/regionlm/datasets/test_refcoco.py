import builtins
import json
import os
import pickle

import numpy as np
import pytest

from regionlm.datasets.data_errors import DataError, DataWarning
from regionlm.datasets.refcoco import RefCoco
from regionlm.datasets.refs_pickle import read_refs

pytestmark = pytest.mark.filterwarnings("ignore::regionlm.datasets.data_errors.DataWarning")


def test_candidates_are_all_objects_of_the_image_and_each_sentence_is_a_text(build):
    (sample,) = RefCoco(build.refcoco())
    assert sample.id == "9"
    # 102 is a crowd, 104 has no pixel: neither can be meant.
    assert sample.mask_ids == ("101", "103")
    assert sample.texts == ("lady w back to us", "right one", "brush", "?")
    assert sample.text_ids == ("0", "1", "20", "21")
    assert sample.targets == (1, 1, 0, 0)
    assert sample.dropped == ("104",)


def test_cleaned_sentences_are_an_option_and_blank_ones_are_dropped(build):
    (sample,) = RefCoco(build.refcoco(), text="sent")
    assert sample.texts == ("lady with back to us", "right one", "brush")
    assert sample.dropped == ("104", "21")


def test_overlapping_polygons_of_one_object_are_one_mask(build):
    (sample,) = RefCoco(build.refcoco())
    expected = build.block(30, 40, 2, 2, 12, 12) | build.block(30, 40, 8, 8, 20, 20)
    assert np.array_equal(sample.masks[0], expected)
    assert np.array_equal(sample.masks[1], build.block(30, 40, 5, 25, 15, 35))


def test_a_damaged_annotation_is_an_error_that_names_file_and_id(build):
    root = build.refcoco()
    path = root / "refcoco" / "instances.json"
    whole = json.loads(path.read_text())
    next(one for one in whole["annotations"] if one["id"] == 103)["segmentation"] = [None]
    build.write(path, whole)
    with pytest.raises(DataError, match=r"instances\.json, annotation 103: expected a segm"):
        RefCoco(root)[0]


def test_crowds_can_be_candidates(build):
    (sample,) = RefCoco(build.refcoco(), include_crowd=True)
    assert sample.mask_ids == ("101", "102", "103")
    assert np.array_equal(sample.masks[1], build.block(30, 40, 20, 0, 30, 40))
    assert sample.targets == (2, 2, 0, 0)


@pytest.mark.parametrize(
    ("split", "texts"), [("testA", ["man"]), ("testB", ["not a man"]), ("val", None)]
)
def test_splits(build, split, texts):
    found = [text for sample in RefCoco(build.refcoco(), split) for text in sample.texts]
    assert found == texts or (texts is None and len(found) == 4)


def test_the_letter_of_a_test_split_counts(build):
    refs = [build.ref(0, 201, 139, "testAB", ("man", "man"))]
    root = build.refcoco(refs=refs)
    assert len(RefCoco(root, "testA")) == len(RefCoco(root, "testB")) == 1


def test_a_split_that_is_not_there_names_those_that_are(build):
    with pytest.raises(DataError, match="testA, testB, val; found 'test'"):
        RefCoco(build.refcoco(), "test")


def test_refcoco_plus_has_a_folder_of_its_own_which_may_be_the_root(build):
    root = build.refcoco(name="refcoco+")
    assert len(RefCoco(root, name="refcoco+")) == 1
    assert RefCoco(root / "refcoco+", name="refcoco+")[0].id == "9"
    with pytest.raises(DataError, match=r"refs\(unc\)\.p.*refcoco\.zip.*train2014\.zip"):
        RefCoco(root)


@pytest.mark.parametrize("folder", ["train2017", "val2017", "images/train2017"])
def test_the_2017_images_will_do(build, folder):
    assert RefCoco(build.refcoco(photos=folder))[0].image.size == (40, 30)


def test_images_may_lie_elsewhere(build, tmp_path):
    root = build.refcoco()
    (root / "images/mscoco/images/train2014").rename(tmp_path / "flat")
    assert RefCoco(root, images=tmp_path / "flat")[0].id == "9"


def test_references_to_what_is_not_annotated_are_left_out_with_a_warning(build):
    refs = [*build.refs, build.ref(9, 999, 9, "val", ("x", "x"))]
    with pytest.warns(DataWarning, match="1 of 3 references"):
        (sample,) = RefCoco(build.refcoco(refs=refs))
    assert len(sample.texts) == 4


def test_other_counts_than_published_are_a_warning_with_both(build):
    with pytest.warns(DataWarning) as caught:
        RefCoco(build.refcoco())
    (message,) = [str(warning.message) for warning in caught]
    for part in ("1 images instead of 1,500", "2 refs instead of 3,811", "4 sentences instead of"):
        assert part in message


class Attack:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("function", [os.system, builtins.eval, builtins.getattr, os.mkdir])
def test_a_pickle_that_would_run_code_raises_and_runs_nothing(build, tmp_path, function, protocol):
    proof = tmp_path / "proof"
    arguments = {
        os.system: (f"touch {proof}",),
        builtins.eval: (f"open({str(proof)!r}, 'w')",),
        builtins.getattr: (os, "system"),
        os.mkdir: (str(proof),),
    }[function]
    if function is builtins.getattr:
        arguments = ("text", "upper")
    root = build.refcoco()
    file = root / "refcoco" / "refs(unc).p"
    file.write_bytes(pickle.dumps([*build.refs, Attack(function, *arguments)], protocol))
    with pytest.raises(DataError, match="no code from it was run"):
        RefCoco(root)
    assert not proof.exists()


def test_such_a_pickle_does_run_code_elsewhere(tmp_path):
    # So that the test above can fail.
    pickle.loads(pickle.dumps(Attack(os.mkdir, str(tmp_path / "proof"))))
    assert (tmp_path / "proof").exists()


def test_texts_of_python_2_that_are_no_ascii_are_read(build):
    refs = [build.ref(0, 103, 9, "val", ("caf\u00e9 lady", "cafe lady"))]
    root = build.refcoco(refs=refs)
    data = (root / "refcoco" / "refs(unc).p").read_bytes()
    assert b"caf\xe9" in data
    assert RefCoco(root)[0].texts == ("caf\u00e9 lady",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_pickles_of_any_protocol_are_read(build, tmp_path, protocol):
    file = tmp_path / "refs(unc).p"
    file.write_bytes(pickle.dumps(build.refs, protocol))
    refs = read_refs(file)
    assert [(ref.id, ref.ann_id, ref.image_id) for ref in refs][:2] == [(0, 103, 9), (1, 201, 139)]
    assert refs[0].sentences[0].raw == "LADY w back to us"


@pytest.mark.parametrize(
    "content", [b"", b"no pickle", pickle.dumps({"refs": 1}), pickle.dumps([{"ref_id": 1}])]
)
def test_a_damaged_pickle_is_an_error(tmp_path, content):
    (tmp_path / "refs(unc).p").write_bytes(content)
    with pytest.raises(DataError, match=r"refs\(unc\)\.p: expected a (pickle|list)"):
        read_refs(tmp_path / "refs(unc).p")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [("text", "tokens", "raw or sent"), ("name", "refcocog", r"refcoco or refcoco\+")],
)
def test_unknown_options(build, option, value, message):
    with pytest.raises(DataError, match=message):
        RefCoco(build.refcoco(), **{option: value})
