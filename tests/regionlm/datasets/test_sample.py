import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from regionlm.datasets.sample import Expression, labelled_sample, referring_sample, resize_mask

side = st.integers(1, 12)
shapes = st.tuples(side, side)


@given(arrays(bool, shapes), shapes)
def test_resizing_takes_the_pixel_under_each_new_centre(mask, shape):
    # In whole numbers: the centre of new pixel i lies in old pixel (2 i + 1) old // (2 new).
    rows, columns = (
        (2 * np.arange(new) + 1) * old // (2 * new)
        for new, old in zip(shape, mask.shape, strict=True)
    )
    expected = mask[np.ix_(rows, columns)]
    # A centre on a border between two pixels may go either way.
    ties = [
        (2 * np.arange(new) + 1) * old % (2 * new) == 0
        for new, old in zip(shape, mask.shape, strict=True)
    ]
    certain = ~(ties[0][:, None] | ties[1][None, :])
    resized = resize_mask(mask, shape[::-1])
    assert resized.dtype == bool and resized.shape == shape
    assert np.array_equal(resized[certain], expected[certain])
    assert set(np.unique(resized)) <= set(np.unique(mask))


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(["a hat", "", " \t"])), max_size=6))
def test_targets_follow_their_masks_when_others_are_dropped(entries):
    masks = {f"m{i}": np.full((3, 4), filled) for i, (filled, _) in enumerate(entries)}
    texts = [Expression(f"t{i}", text, f"m{i}") for i, (_, text) in enumerate(entries)]
    sample = referring_sample("1", Image.new("RGB", (4, 3)), masks, texts[::-1], {})
    assert sample.masks.shape == (len(sample.mask_ids), 3, 4)
    assert set(sample.mask_ids) == {f"m{i}" for i, (filled, _) in enumerate(entries) if filled}
    pairs = zip(sample.text_ids, sample.targets, strict=True)
    assert all(sample.mask_ids[target][1:] == name[1:] for name, target in pairs)
    good = {f"t{i}" for i, (filled, text) in enumerate(entries) if filled and text.strip()}
    assert set(sample.text_ids) == good
    everything = {*masks, *(text.id for text in texts)}
    assert set(sample.dropped) == everything - good - set(sample.mask_ids)


def test_a_text_whose_mask_is_unknown_is_dropped():
    masks = {"m": np.ones((3, 4), bool)}
    sample = referring_sample(
        "1", Image.new("RGB", (4, 3)), masks, [Expression("t", "hat", "n")], {}
    )
    assert (sample.texts, sample.targets, sample.dropped) == ((), (), ("t",))


def test_labels_follow_their_masks():
    masks = {"a": np.zeros((3, 4), bool), "b": np.ones((3, 4), bool)}
    sample = labelled_sample("1", Image.new("RGB", (8, 6)), masks, [0, 1], ["cat", "dog"])
    assert (sample.mask_ids, sample.labels, sample.texts) == (("b",), (1,), ("dog",))
    assert (sample.targets, sample.dropped) == ((0,), ("a",))
    assert sample.masks.shape == (1, 6, 8) and sample.tags == {"annotated_size": (4, 3)}
