import json
import shutil
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from transformers import SamModel

from eval.degrade import SHAPES, boxed, dilated, eroded, make_degradation
from eval.errors import DataError
from eval.runs.execute import evaluate
from eval.sam import BoxSam
from eval.settings import Data, EmbedderSource, Machines, MaskQuality, Run, SamSource

CPU = torch.device("cpu")
MASKS = arrays(bool, (2, 9, 11)).filter(lambda masks: masks.any((1, 2)).all())


@given(MASKS)
def test_none_is_empty_and_sizes_stay(masks):
    for change in SHAPES.values():
        changed = change(masks)
        assert changed.shape == masks.shape and changed.dtype == bool
        assert changed.any((1, 2)).all()


@given(MASKS)
def test_they_shrink_and_grow(masks):
    assert not (eroded(masks) & ~masks).any()
    assert not (masks & ~dilated(masks)).any()
    assert not (masks & ~boxed(masks)).any()


@given(st.integers(0, 8), st.integers(0, 10), st.integers(0, 8), st.integers(0, 10))
def test_boxes_are_those_of_the_extremes(top, left, bottom, right):
    masks = np.zeros((1, 9, 11), bool)
    masks[0, top, left] = masks[0, bottom, right] = True
    wanted = np.zeros((9, 11), bool)
    wanted[min(top, bottom) : max(top, bottom) + 1, min(left, right) : max(left, right) + 1] = True
    assert (boxed(masks)[0] == wanted).all()


def test_erosion_takes_two_pixels_but_not_at_the_frame():
    masks = np.zeros((2, 12, 12), bool)
    masks[0, 2:10, 2:10] = True
    masks[1] = True
    thinner = eroded(masks)
    assert thinner[0].sum() == 16 and thinner[1].all()


def _regions():
    """A picture and three regions of it, one of a single pixel."""
    pixels = np.random.default_rng(1).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    masks = np.zeros((3, 30, 40), bool)
    masks[0, 5:9, 5:30] = masks[0, 9:20, 10:12] = True
    masks[1, 20:30, 0:40] = True
    masks[2, 7, 39] = True
    return Image.fromarray(pixels), masks


def test_sam_is_shown_the_bounding_boxes(tiny_sam):
    image, masks = _regions()
    found = make_degradation("box_sam", SamSource(str(tiny_sam)), CPU)(image, masks)
    boxes = [(5, 5, 30, 20), (0, 20, 40, 30), (39, 7, 40, 8)]
    drawn = BoxSam.load(str(tiny_sam), CPU)(image, boxes)
    assert drawn.any((1, 2)).all() and (found == drawn).all()


def test_where_sam_draws_nothing_the_box_stays(tiny_sam, tmp_path):
    model = SamModel.from_pretrained(tiny_sam)
    last = model.mask_decoder.output_hypernetworks_mlps[0].proj_out
    with torch.no_grad():
        last.weight.zero_()
        last.bias.zero_()
    shutil.copytree(tiny_sam, tmp_path / "sam")
    model.save_pretrained(tmp_path / "sam")
    image, masks = _regions()
    found = make_degradation("box_sam", SamSource(str(tmp_path / "sam")), CPU)(image, masks)
    assert (found == boxed(masks)).all()


@pytest.mark.parametrize("name", get_args(MaskQuality))
def test_every_setting_gives_as_many_masks_none_empty(name, tiny_sam):
    image, masks = _regions()
    before = masks.copy()
    changed = make_degradation(name, SamSource(str(tiny_sam)), CPU)(image, masks)
    assert changed.shape == masks.shape and changed.dtype == bool and changed.any((1, 2)).all()
    assert (masks == before).all()


def test_unknown_names_are_listed():
    with pytest.raises(DataError, match=r"masks: expected one of exact, .*box_sam; found 'sam'"):
        make_degradation("sam", SamSource(), CPU)


def test_a_run_records_which_sam_it_used(tiny_sam, tmp_path):
    machines = Machines(accelerator="cpu", progress=False)
    embedder = EmbedderSource("maskclip")
    found = {}
    for masks in ("exact", "box_sam"):
        run = Run(
            "classes", Data("mini", workers=0), tmp_path / masks, embedder=embedder, masks=masks,
            sam=SamSource(str(tiny_sam), offline=True), trainer=machines, limit=2,
        )  # fmt: skip
        found[masks] = evaluate(run)["settings"]
    assert "sam" not in found["exact"]  # it depends on none
    assert found["box_sam"]["sam"] == {"name": str(tiny_sam), "offline": True}
    scores = [
        [json.loads(line)["score"] for line in (tmp_path / masks / "samples.jsonl").open()]
        for masks in found
    ]
    assert scores[0] != scores[1]
