"""Which regions the images of a chat mark."""

import io

import numpy as np
import pytest
from PIL import Image

from regionlm.errors import InputError
from regionlm.serve.engine import Engine
from regionlm.serve.errors import ClosingError
from regionlm.serve.limits import Limits
from regionlm.serve.openai.pictures import last_question, read_pictures
from regionlm.serve.openai.schemas import Message
from tests.regionlm.serve.openai.chats import LEFT, RIGHT, box_mask, cut_out, grey
from tests.regionlm.serve.pictures import picture, png

IMAGE = picture(1)
A, B = box_mask(IMAGE, LEFT), box_mask(IMAGE, RIGHT)


def read(engine, *images):
    files = [(f"picture {number}", png(image)) for number, image in enumerate(images, 1)]
    return read_pictures(engine, files)


def regions_of(shown):
    return [[region.name for region in one.regions] for one in shown]


def test_transparency_is_the_region_and_the_colours_stay(engine):
    (shown,) = read(engine, cut_out(IMAGE, A))
    assert np.array_equal(shown.view.image, IMAGE) and shown.view.image.mode == "RGB"
    (region,) = shown.regions
    assert region.name == "image 1" and np.array_equal(region.mask, A)


@pytest.mark.parametrize("mode", ["L", "1", "RGB"])
def test_a_mask_after_an_image_is_its_region(engine, mode):
    (shown,) = read(engine, IMAGE, grey(A).convert(mode), grey(B))
    assert np.array_equal(shown.view.image, IMAGE)
    assert [region.name for region in shown.regions] == ["image 2", "image 3"]
    assert all(np.array_equal(r.mask, m) for r, m in zip(shown.regions, (A, B), strict=True))


def test_a_label_map_gives_a_region_for_each_label(engine):
    labels = Image.fromarray((A * 3 + B * 7).astype(np.uint8))
    assert regions_of(read(engine, IMAGE, labels)) == [["image 2#3", "image 2#7"]]


def test_an_image_without_a_region_is_meant_as_a_whole(engine):
    for image in (IMAGE, cut_out(IMAGE, A | ~A)):
        (shown,) = read(engine, image)
        assert regions_of([shown]) == [["image 1"]] and shown.regions[0].mask.all()


def test_sixteen_bits_keep_their_colours_whatever_one_stands_for(engine):
    samples = np.arange(1200, dtype=np.uint16).reshape(30, 40) * 54
    file = io.BytesIO()
    Image.fromarray(samples).save(file, "PNG", transparency=0)
    [shown] = read_pictures(engine, [("picture 1", file.getvalue())])
    expected = np.round(samples / 257).astype(np.uint8)
    assert np.array_equal(np.asarray(shown.view.image)[..., 0], expected)


def test_several_images_are_several_regions(engine):
    shown = read(engine, cut_out(IMAGE, A), picture(2), cut_out(picture(3), B))
    assert regions_of(shown) == [["image 1"], ["image 2"], ["image 3"]]


def test_cut_outs_of_one_image_are_regions_of_it(engine):
    assert regions_of(read(engine, cut_out(IMAGE, A), cut_out(IMAGE, B))) == [
        ["image 1", "image 2"]
    ]


def test_a_mask_adds_to_the_region_of_a_cut_out(engine):
    assert regions_of(read(engine, cut_out(IMAGE, A), grey(B))) == [["image 1", "image 2"]]


@pytest.mark.parametrize(
    "images, message",
    [
        ([IMAGE, grey(A).resize((20, 15))], "picture 2: .*the proportions agree"),
        ([IMAGE, grey(A & B)], "picture 2: .*empty"),
        ([cut_out(IMAGE, A & B)], "picture 1: .*transparent"),
        ([picture(n) for n in range(70)], "regions: expected at most 64"),
    ],
)
def test_what_marks_nothing_is_refused(engine, images, message):
    with pytest.raises(InputError, match=message):
        read(engine, *images)


@pytest.mark.parametrize(
    "limits, images, message",
    [
        (
            {"max_regions": 2},
            [IMAGE, Image.fromarray((A * 3 + B * 7).astype(np.uint8)), grey(A)],
            "2",
        ),
        (
            {"max_regions": 1},
            [IMAGE, Image.fromarray((A * 3 + B * 7).astype(np.uint8))],
            "1 regions",
        ),
        ({"queue_mib": 0.01}, [picture(n) for n in range(4)], "picture 3: .*too large together"),
    ],
)
def test_pictures_are_limited_together(mini, limits, images, message):
    engine = Engine(mini, Limits(**limits))
    with pytest.raises(InputError, match=message):
        read(engine, *images)
    engine.close()


def test_no_picture_is_decoded_for_a_queue_without_room(engine):
    engine.close()
    with pytest.raises(ClosingError):
        read_pictures(engine, [("picture 1", b"no image")])


def message(role, *parts):
    return Message.model_validate({"role": role, "content": list(parts)})


def url(text):
    return {"type": "image_url", "image_url": {"url": text}}


def text(words):
    return {"type": "text", "text": words}


def test_the_last_turn_counts_and_images_of_an_earlier_one_if_it_has_none():
    talk = [
        message("system", text("be brief")),
        message("user", url("old"), text("what?")),
        message("assistant", text("a fox")),
        message("user", text(" and "), url("one"), url("two"), text("this?")),
    ]
    places, words = last_question(talk)
    assert [place.url for place in places] == ["one", "two"] and words == "and this?"
    assert places[1].name == "messages.3.content.2.image_url"
    later = [*talk, message("assistant"), message("user", text("its colour?"))]
    assert last_question(later) == (places, "its colour?")


def test_without_an_image_there_is_nothing_to_caption():
    with pytest.raises(InputError, match="found no image"):
        last_question([message("user", text("hello"))])
