"""What holds for every dataset."""

import pickle
import shutil
from dataclasses import MISSING, fields

import numpy as np
import pytest
from torch.utils.data import DataLoader

from regionlm.datasets import DATASETS, Sample, open_dataset
from regionlm.datasets.context_classes import CLASSES
from regionlm.datasets.data_errors import DataError, DataWarning
from regionlm.datasets.dataset_options import DATASET_OPTIONS, check_request
from regionlm.datasets.mini import FOLDER

pytestmark = pytest.mark.filterwarnings("ignore::regionlm.datasets.data_errors.DataWarning")


@pytest.fixture(params=sorted(DATASETS))
def name(request):
    return request.param


@pytest.fixture
def root(name, build, tmp_path):
    if name == "mini":
        return shutil.copytree(FOLDER, tmp_path / "mini")
    if name.startswith("refcoco"):
        return build.refcoco(name=name)
    if name == "context59":
        return build.context("detail", CLASSES)
    return getattr(build, name.removesuffix("2012"))()


@pytest.fixture
def dataset(name, root):
    return open_dataset(name, root)


def check(sample, dataset):
    assert isinstance(sample, Sample)
    assert sample.image.mode == "RGB"
    assert sample.masks.dtype == bool
    assert sample.masks.shape == (len(sample.mask_ids), sample.image.height, sample.image.width)
    assert sample.masks.any((1, 2)).all()
    assert len(set(sample.mask_ids)) == len(sample.mask_ids)
    assert len(sample.texts) == len(sample.text_ids) == len(sample.targets)
    assert all(text.strip() for text in sample.texts)
    assert all(0 <= target < len(sample.masks) for target in sample.targets)
    assert not set(sample.dropped) & {*sample.mask_ids, *sample.text_ids}
    if dataset.classes:
        assert sample.targets == tuple(range(len(sample.masks)))
        if dataset.name != "mini":  # its texts say more than the class
            assert tuple(dataset.classes[label] for label in sample.labels) == sample.texts
        assert len(sample.labels) == len(sample.masks)
    else:
        assert sample.labels == ()


def same(one, other):
    assert (one.id, one.mask_ids, one.texts, one.targets, one.labels, one.tags, one.dropped) == (
        other.id, other.mask_ids, other.texts, other.targets, other.labels, other.tags,
        other.dropped,
    )  # fmt: skip
    assert np.array_equal(one.masks, other.masks)
    assert one.image.tobytes() == other.image.tobytes()


def test_samples_are_consistent(dataset, name):
    samples = list(dataset)
    assert len(samples) == len(dataset) > 0
    for index, sample in enumerate(samples):
        check(sample, dataset)
        assert sample.id == dataset.id_of(index)
    assert len({sample.id for sample in samples}) == len(samples)
    assert dataset.name == name and dataset.split


def test_indices_end_with_the_dataset(dataset):
    same(dataset[-1], dataset[len(dataset) - 1])
    for index in (len(dataset), -len(dataset) - 1):
        with pytest.raises(IndexError):
            dataset[index]


def test_nothing_is_decoded_on_opening(name, root):
    photos = list(root.rglob("*.jpg"))
    assert photos
    for photo in photos:
        photo.write_bytes(b"no picture")
    dataset = open_dataset(name, root)
    assert dataset.id_of(0)
    with pytest.raises(DataError, match="cannot be decoded"):
        dataset[0]


def test_it_can_be_sent_to_a_process(dataset):
    again = pickle.loads(pickle.dumps(dataset))
    same(again[0], dataset[0])
    same(pickle.loads(pickle.dumps(dataset[0])), dataset[0])
    assert again.classes == dataset.classes


def test_a_loader_decodes_in_its_workers(dataset):
    loader = DataLoader(dataset, batch_size=2, num_workers=1, collate_fn=list)
    loaded = [sample for batch in loader for sample in batch]
    for one, other in zip(loaded, dataset, strict=True):
        same(one, other)


def test_missing_files_are_one_line(name, tmp_path):
    (tmp_path / "empty").mkdir()
    source = "ships with regionlm" if name == "mini" else "http"
    with pytest.raises(DataError, match=rf"Download: .*{source}") as caught:
        open_dataset(name, tmp_path / "empty")
    assert "\n" not in str(caught.value) and str(tmp_path / "empty") in str(caught.value)


def test_a_missing_image_is_an_error_on_opening_or_else_when_it_is_read(name, root):
    dataset = open_dataset(name, root)
    lost = dataset.id_of(0)
    (photo,) = [path for path in root.rglob("*.jpg") if _number(path) == lost]
    photo.unlink()
    some = rf"1 of {len(dataset)} images are missing, for example \S*{photo.name}"
    with pytest.raises(DataError, match=some):
        open_dataset(name, root)
    if len(dataset) == 1:  # none is left: another folder was meant
        with pytest.raises(DataError, match=some):
            open_dataset(name, root, allow_missing=True)
        return
    with pytest.warns(DataWarning, match=some):
        part = open_dataset(name, root, allow_missing=True)
    assert [part.id_of(i) for i in range(len(part))] == [
        dataset.id_of(i) for i in range(len(dataset))
    ]
    with pytest.raises(DataError, match=rf"{photo.name}: no such file"):
        part[0]
    same(part[1], dataset[1])


def _number(photo):
    stem = photo.stem.removeprefix("COCO_train2014_")
    return stem.lstrip("0") if len(stem) == 12 else stem


def test_its_annotations_are_files_and_no_pictures(dataset, root):
    assert dataset.annotations and all(path.is_file() for path in dataset.annotations)
    assert all(root in path.parents for path in dataset.annotations)
    assert not {path.suffix for path in dataset.annotations} & {".jpg", ".png"}


def test_a_limit_draws_the_same_images_again(name, root):
    whole = open_dataset(name, root)
    drawn = [open_dataset(name, root, limit=1, seed=seed).id_of(0) for seed in range(8)]
    assert drawn == [whole.limited(1, seed).id_of(0) for seed in range(8)]
    assert set(drawn) <= {whole.id_of(i) for i in range(len(whole))}
    assert len(whole) == 1 or len(set(drawn)) > 1
    more = whole.limited(len(whole) + 1)
    assert [more.id_of(i) for i in range(len(more))] == [whole.id_of(i) for i in range(len(whole))]
    with pytest.raises(DataError, match="at least 1 image, found 0"):
        whole.limited(0)


def test_unknown_options_name_those_there_are(name, root):
    one = {"mini": "style", "voc2012": "drop_classes", "context59": "form"}.get(name, "images")
    with pytest.raises(DataError, match=rf"colour: not an option .*{one}"):
        open_dataset(name, root, colour=1)
    with pytest.raises(DataError, match=r"split: expected one of|expected a split among"):
        open_dataset(name, root, "no such split")


def test_every_dataset_declares_its_options_with_defaults_and_a_split(name, dataset):
    kind = DATASET_OPTIONS[name]
    assert kind.dataset == name and dataset.split == kind.default_split
    assert kind.ships == (name == "mini")
    assert all(field.default is not MISSING for field in fields(kind))
    assert not {field.name for field in fields(kind)} & {"name", "root", "split", "allow_missing"}
    assert all(f"{field.name}:" in kind.__doc__ or kind.__doc__.startswith("Options of `refcoco+`")
               for field in fields(kind))  # fmt: skip


def test_options_and_readers_are_of_the_same_datasets():
    assert list(DATASET_OPTIONS) == list(DATASETS)


@pytest.mark.parametrize(
    ("name", "option", "value", "message"),
    [
        ("phrasecut", "images", 3, "phrasecut: images: expected the path of a file or folder"),
        ("refcoco", "text", "tokens", "refcoco: text: expected raw or sent"),
        ("refcoco+", "text", "tokens", r"refcoco\+: text: expected raw or sent"),
        ("refcoco", "include_crowd", "yes", "refcoco: include_crowd: expected true or false"),
        ("coco", "include_crowd", 1, "coco: include_crowd: expected true or false, found 1"),
        ("voc2012", "names", "long", "voc2012: names: expected spelled or raw"),
        ("voc2012", "drop_classes", "cat", "drop_classes: expected a list of names, found 'cat'"),
        ("context59", "names", "long", "context59: names: expected spelled or raw"),
        ("context59", "form", "xml", "form: expected one of auto, png, mat, detail; found 'xml'"),
        ("openimages", "hierarchy", 3, "openimages: hierarchy: expected the path of a file"),
        ("mini", "style", "new", "mini: style: expected one of all, seen, held_out"),
    ],
)
def test_bad_values_are_refused_before_any_file_is_looked_for(name, option, value, message):
    with pytest.raises(DataError, match=message) as caught:
        check_request(name, "nowhere", {option: value})
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=message):
        open_dataset(name, "nowhere", **{option: value})


def test_an_unknown_dataset_names_those_there_are(tmp_path):
    with pytest.raises(DataError, match=r"phrasecut, refcoco.*found 'imagenet'"):
        open_dataset("imagenet", tmp_path)
