"""SAM is run for real: a tiny random one, saved and read as published ones are."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import SamImageProcessor, SamModel, SamProcessor

from eval.sam import BOXES_AT_ONCE, BoxSam
from regionlm.cli.main import main
from regionlm.errors import ModelError

CPU = torch.device("cpu")
BOXES = [(0, 0, 10, 10), (5, 5, 30, 20), (0, 20, 40, 30), (25, 5, 35, 15), (3, 2, 4, 29)]


def picture(width=40, height=30):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def by_transformers(folder, image, boxes):
    """As transformers' documentation says, all boxes in one call from the pixels."""
    model, processor = SamModel.from_pretrained(folder), SamProcessor.from_pretrained(folder)
    floats = [[float(value) for value in box] for box in boxes]
    inputs = processor(images=image, input_boxes=[floats], return_tensors="pt")
    with torch.no_grad():
        found = model(
            pixel_values=inputs["pixel_values"],
            input_boxes=inputs["input_boxes"],
            multimask_output=False,
        )
    (masks,) = processor.post_process_masks(
        found.pred_masks, inputs["original_sizes"], inputs["reshaped_input_sizes"]
    )
    return masks[:, 0].numpy()


@pytest.mark.parametrize("size", [(40, 30), (30, 40), (64, 64), (200, 90)])
def test_masks_are_those_of_transformers(size, tiny_sam):
    image = picture(*size)
    boxes = [np.multiply(box, [size[0] / 40, size[1] / 30] * 2).tolist() for box in BOXES]
    masks = BoxSam.load(str(tiny_sam), CPU)(image, boxes)
    assert masks.dtype == bool and masks.shape == (len(boxes), size[1], size[0])
    assert 0 < masks.mean() < 1 and not (masks == masks[:1]).all()  # else this would say nothing
    assert (masks == by_transformers(tiny_sam, image, boxes)).all()


def test_an_image_is_embedded_once_and_boxes_are_split(tiny_sam, monkeypatch):
    sam = BoxSam.load(str(tiny_sam), CPU)
    boxes = [BOXES[i % len(BOXES)] for i in range(2 * BOXES_AT_ONCE + 3)]
    embedded, drawn = [], []
    embed, draw = sam.model.get_image_embeddings, sam._draw
    monkeypatch.setattr(sam.model, "get_image_embeddings", lambda x: embedded.append(1) or embed(x))
    monkeypatch.setattr(
        sam, "_draw", lambda seen, some, inputs: drawn.append(some) or draw(seen, some, inputs)
    )
    masks = sam(picture(), boxes)
    assert len(embedded) == 1
    assert [some.shape[1] for some in drawn] == [BOXES_AT_ONCE, BOXES_AT_ONCE, 3]
    assert (masks == by_transformers(sam.name, picture(), boxes)).all()


def test_nothing_is_said_while_loading(tiny_sam, capfd):
    BoxSam.load(str(tiny_sam), CPU)
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def folder(tiny_sam, tmp_path):
    return shutil.copytree(tiny_sam, tmp_path / "sam")


def _config(folder, change):
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


def _other_layers(folder):
    _config(folder, lambda config: config["mask_decoder_config"].update(num_hidden_layers=3))


def _fewer_layers(folder):
    _config(folder, lambda config: config["mask_decoder_config"].update(num_hidden_layers=1))


def _other_widths(folder):
    _config(folder, lambda config: config["mask_decoder_config"].update(mlp_dim=48))


def _other_kind(folder):
    _config(folder, lambda config: config.update(model_type="gpt2"))


def _processor(edge, pad):
    square = {"height": pad, "width": pad}
    processor = SamProcessor(SamImageProcessor(size={"longest_edge": edge}, pad_size=square))
    return lambda folder: processor.save_pretrained(folder)


def _cut(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])


def _gone(name):
    return lambda folder: (folder / name).unlink()


DAMAGES = {
    "weights of other layers": (_other_layers, "not fit config.json: missing mask_decoder.*layers"),
    "weights of other widths": (_other_widths, r"lin1.* has shape \[.*config.json needs \["),
    "weights too many": (_fewer_layers, "missing nothing, unexpected mask_decoder.*layers.1"),
    "another model": (_other_kind, "config.json of model type sam, found gpt2"),
    "another processor": (_processor(1024, 1024), "reads images of 64 pixels.* 1024;"),
    "a processor that pads too much": (_processor(48, 64), "of 64 pixels.* makes 48 and 64;"),
    "a processor that pads too far": (_processor(64, 96), "of 64 pixels.* makes 64 and 96;"),
    "half a file": (_cut, "cannot read SAM"),
    "no weights": (_gone("model.safetensors"), "cannot read SAM"),
    "no config": (_gone("config.json"), "config.json of model type sam, found none"),
    "no processor": (_gone("processor_config.json"), "cannot read SAM"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_folders_are_refused_in_one_line(damage, folder, capfd):
    spoil, message = DAMAGES[damage]
    spoil(folder)
    with pytest.raises(ModelError, match=message) as caught:
        BoxSam.load(str(folder), CPU)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["", "vit_h", "/no/such/folder", "a b/c"])
def test_names_that_are_neither_folder_nor_hub_id(name):
    with pytest.raises(ModelError, match=r"unknown SAM.*facebook/sam-vit-base"):
        BoxSam.load(name, CPU)


def test_numbers_that_are_not_finite_are_not_an_empty_mask(folder):
    model = SamModel.from_pretrained(folder)
    with torch.no_grad():
        model.mask_decoder.mask_tokens.weight.fill_(torch.nan)
    model.save_pretrained(folder)
    with pytest.raises(ModelError, match="not finite"):
        BoxSam.load(str(folder), CPU)(picture(), BOXES)


def test_the_command_line_names_what_is_missing(tmp_path, monkeypatch, capfd):
    """The default is a hub id; offline, it has to be in the cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    command = "eval --task classes --data.name mini --data.workers 0 --limit 1 --masks box_sam"
    command += " --sam.offline true --trainer.accelerator cpu --trainer.progress false"
    assert main([*command.split(), "--output", str(tmp_path / "run")]) == 2
    said = capfd.readouterr().err
    assert "facebook/sam-vit-base" in said and "on this machine" in said
    assert said.count("\n") == 1 and not (tmp_path / "run" / "result.json").exists()
