"""Where an image lies in a model's input, for any shape of both."""

from hypothesis import example, given
from hypothesis import strategies as st

from regionlm.inputs.placement import MAX_SIDE, Placement, place

sides = st.integers(1, 5000)
patches = st.integers(2, 32)
cells = st.integers(1, 32)


@given(sides, sides, cells, cells, patches, patches)
def test_squash_fills_the_input(width, height, gh, gw, ph, pw):
    size = (gh * ph, gw * pw)
    assert place((width, height), size, (ph, pw), "squash") == Placement.whole(size)


@given(sides, sides, cells, cells, patches, patches)
@example(5000, 1, 1, 1, 2, 2)
def test_pad_keeps_the_shape_as_large_as_fits(width, height, gh, gw, ph, pw):
    size, patch = (gh * ph, gw * pw), (ph, pw)
    placed = place((width, height), size, patch, "pad")
    assert placed.size == size
    assert any(e == s for e, s in zip(placed.extent, size, strict=True))
    scale = min(size[0] / height, size[1] / width)
    for extent, side in zip(placed.extent, (height, width), strict=True):
        assert extent == 1 or abs(extent - side * scale) <= 0.5 + 1e-9
    for (start, stop), side, p in zip(placed.spans, size, patch, strict=True):
        assert 0 <= start < stop <= side and start % p == 0
        assert 0 <= (side - stop) - start < 2 * p + 1  # in the middle, but for less than a patch


@given(st.integers(50, 2000), st.integers(50, 2000), st.integers(12, 40), patches)
def test_native_keeps_shape_and_number_of_patches(width, height, cells, patch):
    size = (cells * patch, cells * patch)
    placed = place((width, height), size, (patch, patch), "native")
    assert placed.fills
    gh, gw = (side / patch for side in placed.size)
    assert gh == int(gh) >= 1 and gw == int(gw) >= 1
    shape = height / width
    if 1 / 8 < shape < 8:
        assert 0.75 < gh * gw / cells**2 < 1.34
        assert (gh - 0.5) / (gw + 0.5) <= shape * 1.0001 and (gh + 0.5) / (gw - 0.5) >= shape * 0.9


@given(sides, sides, cells, cells, patches, patches)
def test_native_is_never_larger_than_a_model_takes(width, height, gh, gw, ph, pw):
    placed = place((width, height), (gh * ph, gw * pw), (ph, pw), "native")
    rows, columns = placed.size[0] // ph, placed.size[1] // pw
    assert max(placed.size) <= MAX_SIDE and rows * columns <= max(2 * gh * gw, 4)


@given(st.integers(1, 300), cells, cells, patches)
def test_an_image_of_the_inputs_shape_fills_it_under_each(factor, gh, gw, patch):
    size = (gh * patch, gw * patch)
    image = (factor * gw, factor * gh)
    for resize in ("squash", "pad", "native"):
        assert place(image, size, (patch, patch), resize) == Placement.whole(size)


def test_the_usual_photo():
    assert place((640, 480), (448, 448), (16, 16), "native").size == (384, 512)
    placed = place((640, 480), (448, 448), (16, 16), "pad")
    assert placed.extent == (336, 448) and placed.corner == (48, 0)
