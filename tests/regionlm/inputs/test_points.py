"""Points as JSON and the command line have them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regionlm.errors import InputError
from regionlm.inputs.points import Point, check_points, parse_points, points_name, read_points

PLACES = st.lists(
    st.tuples(st.integers(0, 99), st.integers(0, 49), st.booleans()), min_size=1, max_size=5
).filter(lambda points: any(inside for *_, inside in points))


@given(PLACES)
def test_a_name_is_read_as_the_same_points(places):
    points = [Point(*place) for place in places]
    text = points_name(points).removeprefix("points ")
    assert read_points(parse_points(text), (100, 50)) == points


def test_labels_are_1_inside_and_0_outside():
    assert check_points([[1, 2], [3.5, 4, 1], [5, 6, 0]]) == [
        Point(1, 2),
        Point(3.5, 4),
        Point(5, 6, False),
    ]


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ([], "expected"),
        ("1,2", "expected"),
        ([1, 2], "the point 1"),
        ([[1]], "the point"),
        ([[1, 2, 3, 4]], "the point"),
        ([[1, float("nan")]], "the point"),
        ([[1, True]], "the point"),
        ([[1, 2, 2]], "label"),
        ([[1, 2, 0]], "at least one inside"),
    ],
)
def test_other_things_are_refused(points, words):
    with pytest.raises(InputError, match=words):
        check_points(points)


@pytest.mark.parametrize("point", [(-1, 0), (10, 0), (0, 5), (0.5, 5.5)])
def test_points_outside_the_image_are_refused(point):
    with pytest.raises(InputError, match="outside the image, which is 10 x 5"):
        read_points([point], (10, 5))


@pytest.mark.parametrize("text", ["", "1", "1,2:", "a,b", "1,2,3,4", "1 2"])
def test_texts_that_are_no_points_are_refused(text):
    with pytest.raises(InputError):
        parse_points(text)
