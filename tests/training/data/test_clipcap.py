"""CLIPCap's own file of embeddings, which is a pickle and could hold anything."""

import io
import os
import pickle

import pytest
import torch

from regionlm.errors import InputError
from training.data import open_pair_source
from training.data.example import MAX_CHARACTERS


def clipcap(path, embeddings, captions, protocol=4):
    path.write_bytes(pickle.dumps({"clip_embedding": embeddings, "captions": captions}, protocol))
    return {"path": str(path)}


CAPTIONS = [
    {"image_id": "9", "id": i, "caption": f" a cat. {i}\n", "clip_embedding": i % 2}
    for i in range(3)
]


def read(options, **changes):
    return open_pair_source(
        "clipcap", options, **{"dim": 4, "limit": None, "skip_bad": False, **changes}
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("protocol", [2, 4])
def test_clipcaps_embedding_file_is_read_as_it_is(tmp_path, dtype, protocol):
    rows = torch.randn(5, 4).to(dtype)[1::2]  # a view, as torch.cat's results may become
    pairs = read(clipcap(tmp_path / "c.pkl", rows, CAPTIONS, protocol))
    assert [pairs[i][1] for i in range(3)] == [one["caption"] for one in CAPTIONS]
    for i in range(3):
        assert pairs[i][0].equal(rows[i % 2].float())


class Malice:
    def __reduce__(self):
        return os.system, ("touch ran",)


class Nested:
    """Malice inside the bytes of a tensor's storage."""

    def __reduce__(self):
        buffer = io.BytesIO()
        torch.save(Malice(), buffer)
        return torch.storage._load_from_bytes, (buffer.getvalue(),)


class Overlong:
    """A tensor that says it is larger than its data."""

    def __reduce__(self):
        storage = torch.storage.TypedStorage([1.0] * 4, _internal=True)
        return torch._utils._rebuild_tensor_v2, (storage, 0, (9, 4), (4, 1), False, {})


@pytest.mark.parametrize("bad", [Malice(), Nested(), Overlong()])
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path, monkeypatch, bad):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="nothing it holds was run"):
        read(clipcap(tmp_path / "c.pkl", bad, CAPTIONS))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("embeddings", "captions", "said"),
    [
        (torch.ones(2, 5), CAPTIONS, "width 4.*found 5"),
        (torch.full((2, 4), torch.nan), CAPTIONS, "NaN"),
        (torch.ones(1, 4), CAPTIONS, "caption 1: clip_embedding: expected a row from 0 to 0"),
        (torch.ones(2, 4), [{**CAPTIONS[0], "caption": "x" * (MAX_CHARACTERS + 1)}], "10,001"),
        (torch.ones(2, 4), [], "list of captions"),
        (None, CAPTIONS, "floating-point"),
    ],
)
def test_bad_content_of_the_embedding_file_is_one_line(tmp_path, embeddings, captions, said):
    with pytest.raises(InputError, match=said):
        read(clipcap(tmp_path / "c.pkl", embeddings, captions))


def test_bad_captions_of_the_embedding_file_are_skipped_and_counted(tmp_path):
    captions = [*CAPTIONS, {**CAPTIONS[0], "caption": ""}]
    pairs = read(clipcap(tmp_path / "c.pkl", torch.ones(2, 4), captions), skip_bad=True)
    assert len(pairs) == 3 and pairs.skipped == 1 and "caption 3" in pairs.first_skipped


def test_a_file_cut_off_is_one_line(tmp_path):
    options = clipcap(tmp_path / "c.pkl", torch.ones(2, 4), CAPTIONS)
    data = (tmp_path / "c.pkl").read_bytes()
    (tmp_path / "c.pkl").write_bytes(data[:-30])
    with pytest.raises(InputError, match="nothing it holds was run"):
        read(options)
