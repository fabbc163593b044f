import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from regionlm.errors import InputError
from training.step_batches import Split, StepBatches, ValidationBatches


class Numbered:
    """Pair i is ([i, 1], "i")."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return torch.tensor([float(index), 1.0]), str(index)


def _count(texts):
    return [int(text) % 5 + 1 for text in texts]


def _steps(pairs=20, steps=9, size=6, seed=3, **options):
    return list(StepBatches(Numbered(pairs), steps, size, seed, _count, **options))


def test_an_epoch_has_every_pair_once_in_another_order_each_time():
    batches = _steps(pairs=18, steps=6)
    epochs = [[t for b in batches[i : i + 3] for t in b.texts] for i in (0, 3)]
    for texts in epochs:
        assert sorted(texts, key=int) == [str(i) for i in range(18)]
    assert epochs[0] != epochs[1]
    assert [b.texts for b in _steps(pairs=18, steps=6, seed=4)] != [b.texts for b in batches]


@pytest.mark.parametrize("first", [1, 4, 8])
def test_a_later_start_gives_the_same_batches(first):
    whole, late = _steps(noise=0.5), _steps(noise=0.5, first=first)
    assert [b.texts for b in late] == [b.texts for b in whole[first:]]
    assert all(
        torch.equal(a.embeddings, b.embeddings) for a, b in zip(late, whole[first:], strict=True)
    )


@given(st.integers(1, 4), st.integers(1, 3), st.integers(12, 20))
def test_parts_are_the_whole_batch_and_weigh_as_its_tokens(world, micro, size):
    whole = _steps(steps=2, size=size, noise=0.3)
    shares = [
        _steps(steps=2, size=size, noise=0.3, split=Split(r, world, micro)) for r in range(world)
    ]
    for step in range(2):
        parts = sorted(
            (b for share in shares for b in share if b.step == step), key=lambda b: b.part
        )
        assert [b.part for b in parts] == list(range(world * micro))
        assert [t for b in parts for t in b.texts] == whole[step].texts
        assert torch.equal(torch.cat([b.embeddings for b in parts]), whole[step].embeddings)
        sums = [b.weight * sum(_count(whole[step].texts)) for b in parts]
        assert sums == pytest.approx([sum(_count(b.texts)) * len(parts) for b in parts])


def test_noise_has_the_size_that_was_asked_for():
    (clean,), (noisy,) = _steps(2000, 1, 2000), _steps(2000, 1, 2000, noise=0.25)
    rms = clean.embeddings.pow(2).mean(1, keepdim=True).sqrt()
    relative = (noisy.embeddings - clean.embeddings) / rms
    assert relative.std().item() == pytest.approx(0.25, rel=0.05)


@given(st.integers(1, 30), st.integers(1, 4))
def test_validation_sees_every_pair_once_and_processes_stay_together(count, world):
    shares = [
        list(ValidationBatches(Numbered(count), 7, _count, Split(rank, world)))
        for rank in range(world)
    ]
    assert len({len(share) for share in shares}) == 1
    seen = [t for share in shares for b in share if b.weight for t in b.texts]
    assert sorted(seen, key=int) == [str(i) for i in range(count)]
    total = sum(b.weight for share in shares for b in share)
    assert total == sum(_count([str(i) for i in range(count)]))


def test_more_parts_than_pairs_are_refused():
    with pytest.raises(InputError, match="4 processes and 2 micro-batches, found 6"):
        _steps(split=Split(0, 4, 2))
