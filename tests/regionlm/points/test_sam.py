"""SAM and SAM 2 give what transformers' own processor and model give."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForMaskGeneration, AutoProcessor

from regionlm.errors import ModelError
from regionlm.inputs.points import Point
from regionlm.points.sam import Sam
from regionlm.points.segmenter import load_segmenter
from tests.regionlm.points.tiny_sam import tiny_sam, tiny_sam2

ONE = [Point(20.5, 30)]
SEVERAL = [Point(20.5, 30), Point(70, 10), Point(5, 5, False)]


@pytest.fixture(scope="module", params=[tiny_sam, tiny_sam2])
def folder(request, tmp_path_factory):
    """A folder that transformers wrote."""
    path = tmp_path_factory.mktemp(request.param.__name__)
    for part in request.param():
        part.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def image():
    pixels = np.random.default_rng(0).integers(0, 255, (60, 90, 3)).astype(np.uint8)
    return Image.fromarray(pixels)


def by_transformers(folder, image, points):
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForMaskGeneration.from_pretrained(folder)
    given = processor(
        images=image,
        input_points=[[[[x, y] for x, y, _ in points]]],
        input_labels=[[[int(inside) for *_, inside in points]]],
        return_tensors="pt",
    )
    sizes = [given[name] for name in ("original_sizes", "reshaped_input_sizes") if name in given]
    with torch.no_grad():
        said = model(**given, multimask_output=len(points) == 1)
    masks = processor.post_process_masks(said.pred_masks, *sizes)[0][0]
    return masks[said.iou_scores[0, 0].argmax()].numpy()


@pytest.mark.parametrize("points", [ONE, SEVERAL], ids=["one", "several"])
def test_masks_are_those_of_transformers(folder, image, points):
    expected = by_transformers(folder, image, points)
    segmenter = load_segmenter(folder, device="cpu")
    assert segmenter.method == "sam" and folder.name in segmenter.note
    for _ in range(2):  # the second time, the image has been encoded
        found = segmenter.mask(image, points)
        assert found.dtype == bool and found.shape == (60, 90)
        assert np.array_equal(found, expected)


def test_another_image_is_not_taken_for_the_last(folder, image):
    segmenter = Sam.from_pretrained(folder, device="cpu")
    other = Image.fromarray(255 - np.asarray(image))
    segmenter.mask(image, SEVERAL)
    assert np.array_equal(segmenter.mask(other, SEVERAL), by_transformers(folder, other, SEVERAL))


@pytest.mark.parametrize("source", ["nowhere/at-all", "."])
def test_what_is_no_sam_is_refused_in_one_line(source):
    with pytest.raises(ModelError, match="expected the folder or hub id of a SAM") as caught:
        load_segmenter(source, device="cpu", offline=True)
    assert "\n" not in str(caught.value)
