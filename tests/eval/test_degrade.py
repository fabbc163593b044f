import json
import shutil
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from scipy import ndimage
from transformers import SamModel

from eval.degrade import SHAPES, boxed, dilated, eroded, make_degradation
from eval.run_settings import Data, EmbedderSource, Machines, MaskQuality, Run, SamSource
from eval.runs.check import check_run
from eval.runs.evaluate import evaluate
from eval.sam import BoxSam
from regionlm.datasets import open_dataset
from regionlm.datasets.data_errors import DataError

CPU = torch.device("cpu")
PICTURE = Image.new("RGB", (11, 9))
MASKS = arrays(bool, (2, 9, 11)).filter(lambda masks: masks.any((1, 2)).all())


@given(MASKS)
def test_none_is_empty_and_sizes_stay(masks):
    for name in SHAPES:
        changed, _ = make_degradation(name, SamSource(), CPU)(PICTURE, masks)
        assert changed.shape == masks.shape and changed.dtype == bool
        assert changed.any((1, 2)).all()


@given(MASKS)
def test_they_shrink_and_grow(masks):
    assert not (eroded(masks, 5) & ~masks).any()
    assert not (masks & ~dilated(masks, 5)).any()
    assert not (masks & ~boxed(masks)).any()


@given(MASKS, st.sampled_from([3, 5, 9, 21, 41]))
def test_they_are_morphologys_erosion_and_dilation(masks, kernel):
    square = np.ones((kernel, kernel), bool)
    for mask, less, more in zip(masks, eroded(masks, kernel), dilated(masks, kernel), strict=True):
        assert (less == ndimage.binary_erosion(mask, square, border_value=1)).all()
        assert (more == ndimage.binary_dilation(mask, square)).all()


@pytest.mark.parametrize("quality", ["erosion", "dilation"])
def test_a_square_of_any_size_needs_no_memory_of_its_own(quality):
    found = make_degradation(quality, SamSource(), CPU, 10**9 + 1)(PICTURE, _squares())
    assert found.masks[1].all() and found.replaced == (2 if quality == "erosion" else 0)
    assert found.masks[0].all() == (quality == "dilation")


@given(st.integers(0, 8), st.integers(0, 10), st.integers(0, 8), st.integers(0, 10))
def test_boxes_are_those_of_the_extremes(top, left, bottom, right):
    masks = np.zeros((1, 9, 11), bool)
    masks[0, top, left] = masks[0, bottom, right] = True
    wanted = np.zeros((9, 11), bool)
    wanted[min(top, bottom) : max(top, bottom) + 1, min(left, right) : max(left, right) + 1] = True
    assert (boxed(masks)[0] == wanted).all()


def _squares():
    """8 x 8 pixels, everything, one pixel."""
    masks = np.zeros((3, 12, 12), bool)
    masks[0, 2:10, 2:10] = True
    masks[1] = True
    masks[2, 5, 5] = True
    return masks


@pytest.mark.parametrize(("kernel", "side"), [(3, 6), (5, 4), (7, 2), (9, None)])
def test_erosion_takes_half_the_kernel_but_not_at_the_frame(kernel, side):
    masks = _squares()
    found = make_degradation("erosion", SamSource(), CPU, kernel)(PICTURE, masks)
    assert found.masks[1].all()
    # What nothing would be left of stays as it was, and is counted.
    assert found.masks[0].sum() == (64 if side is None else side**2)
    assert (found.masks[2] == masks[2]).all() and found.replaced == (2 if side is None else 1)


@pytest.mark.parametrize(("kernel", "side"), [(3, 10), (5, 12)])
def test_dilation_adds_half_the_kernel(kernel, side):
    found = make_degradation("dilation", SamSource(), CPU, kernel)(PICTURE, _squares())
    assert found.masks[0].sum() == side**2 and found.masks[2].sum() == kernel**2
    assert found.replaced == 0


@pytest.mark.parametrize("kernel", [-3, 0, 1, 4])
def test_kernels_have_a_middle(kernel):
    with pytest.raises(DataError, match=f"mask_kernel: expected 3, 5, .* odd .*found {kernel}"):
        check_run(Run("classes", Data("mini"), Path("unused"), mask_kernel=kernel))


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
    assert drawn.any((1, 2)).all() and (found.masks == drawn).all() and found.replaced == 0


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
    assert (found.masks == boxed(masks)).all() and found.replaced == len(masks)


@pytest.mark.parametrize("name", get_args(MaskQuality))
def test_every_setting_gives_as_many_masks_none_empty(name, tiny_sam):
    image, masks = _regions()
    before = masks.copy()
    changed, _ = make_degradation(name, SamSource(str(tiny_sam)), CPU)(image, masks)
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


def test_a_run_counts_the_masks_it_could_not_erode(tmp_path):
    """The kernel is a setting of erosion and dilation, and of no other run."""
    machines, found = Machines(accelerator="cpu", progress=False), {}
    dataset = open_dataset("mini", None, limit=2)
    for masks, kernel in (("exact", 5), ("erosion", 3), ("erosion", 41)):
        run = Run(
            "classes", Data("mini", workers=0), tmp_path / f"{masks}-{kernel}",
            embedder=EmbedderSource("cls"), masks=masks, mask_kernel=kernel, trainer=machines,
            limit=2,
        )  # fmt: skip
        found[masks, kernel] = evaluate(run)
    replaced = [result["counts"]["replaced_masks"] for result in found.values()]
    samples = [dataset[i] for i in range(2)]
    gone = sum((~eroded(s.masks, 41).any((1, 2))).sum() for s in samples)
    assert 0 < gone < sum(len(sample.masks) for sample in samples)
    assert replaced == [0, 0, gone]
    kernels = [result["settings"].get("mask_kernel") for result in found.values()]
    assert kernels == [None, 3, 41]
