import pytest
import torch

from training.pairs import Pairs, make_or_load


def _make(calls):
    def make(shard):
        calls.append(shard)
        return Pairs(torch.full((2, 3), float(shard)), [f"{shard} a", f"{shard} b"])

    return make


def test_shards_are_made_once_and_resumed(tmp_path):
    calls = []
    first = Pairs.concatenate(make_or_load(tmp_path, {"x": 1}, 3, _make(calls)))
    assert calls == [0, 1, 2] and first.texts[2] == "1 a" and first.embeddings.shape == (6, 3)
    folder = next(tmp_path.iterdir())
    (folder / "00001.safetensors").unlink()  # as if killed
    again = Pairs.concatenate(make_or_load(tmp_path, {"x": 1}, 3, _make(calls)))
    assert calls == [0, 1, 2, 1]
    assert torch.equal(again.embeddings, first.embeddings) and again.texts == first.texts


def test_workers_make_the_same_shards(tmp_path):
    alone = make_or_load(tmp_path / "alone", {}, 3, _make([]))
    together = make_or_load(tmp_path / "together", {}, 3, _make([]), workers=2)
    assert [shard.texts for shard in together] == [shard.texts for shard in alone]
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one.embeddings, other.embeddings)


def test_another_setting_never_meets_old_embeddings(tmp_path):
    calls = []
    make_or_load(tmp_path, {"lr": 0.1}, 1, _make(calls))
    make_or_load(tmp_path, {"lr": 0.2}, 1, _make(calls))
    assert calls == [0, 0]


def test_a_shard_that_fails_leaves_nothing(tmp_path):
    def make(shard):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        make_or_load(tmp_path, {}, 1, make)
    assert not list(tmp_path.rglob("*.safetensors"))
