"""Relevance of an image to texts and regions, in Python and on the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from regionlm import InputError, RegionCaptioner, as_masks, make_embedder
from regionlm.backbones.vision import VisionBackbone
from regionlm.cli.main import main
from regionlm.embedders.options import RelevanceName
from regionlm.relevance.explanation import Explanation
from regionlm.relevance.resize import GridToMask
from regionlm.relevance.rollout import attention_rollout

SAND = Path(__file__).parents[2] / "examples" / "sand.png"
LABELS = SAND.with_name("sand-labels.png")
FOX = SAND.with_name("sand-fox.png")


@pytest.fixture(scope="module")
def mini() -> RegionCaptioner:
    return RegionCaptioner.from_pretrained("mini")


def test_a_text_is_found_where_it_is(mini):
    (fox, book) = mini.explain(SAND, texts=["a fox", "a book"])
    (mask,) = as_masks(FOX, (320, 320))
    assert (fox.name, book.name) == ("a fox", "a book")
    assert fox.heatmap.shape == (320, 320) and 0 <= fox.heatmap.min() < 0.01
    assert fox.heatmap[fox.peak[1], fox.peak[0]] == fox.heatmap.max()
    assert fox.points_into(mask) and not book.points_into(mask)
    assert fox.share_in(mask) > 2 * book.share_in(mask)
    assert fox.share_in(mask) + fox.share_in(~mask) == pytest.approx(1)
    assert fox.dice is None and fox.to_dict() == {"name": "a fox", "peak": list(fox.peak)}


@pytest.mark.parametrize("relevance", RelevanceName.__args__)
def test_a_text_is_explained_as_autograd_does(mini, relevance):
    """The map of a text is what the engine gives for its token; regions are as in `caption`."""
    embedder = make_embedder("maskinversion", mini.backbone, relevance=relevance, size=96)
    first, *regions = mini.explain(SAND, texts=["a fox"], masks=LABELS, embedder=embedder)
    encoded = mini.backbone.encode(mini.backbone.preprocess(Image.open(SAND), 96)[None])
    token = torch.nn.functional.normalize(mini.backbone.embed_texts(["a fox"]), dim=1)
    method, _ = embedder._method(encoded, 1)
    torch.testing.assert_close(first.relevance[None], method.forward(token))
    wanted = mini.caption(SAND, LABELS, embedder=embedder)
    assert [one.name for one in regions] == [one.region for one in wanted]
    for one, other in zip(regions, wanted, strict=True):
        assert np.array_equal(one.heatmap, other.heatmap())
        assert (one.dice, one.iou) == (other.dice, other.iou)


def test_of_a_view_it_costs_no_forward(mini, monkeypatch):
    view = mini.encode(SAND)
    wanted = mini.explain(SAND, texts=["a fox"], masks=FOX)
    monkeypatch.setattr(VisionBackbone, "encode", None)
    found = mini.explain(view, texts=["a fox"], masks=FOX)
    for one, other in zip(found, wanted, strict=True):
        assert one.relevance.equal(other.relevance)


def test_a_map_without_contrast():
    flat = torch.ones(2, 2)
    one = Explanation("", flat, GridToMask.of((2, 2), (8, 8), (5, 6), flat))
    assert not one.heatmap.any() and one.peak == (0, 0)
    assert one.share_in(np.ones((5, 6), bool)) == 0


@pytest.mark.parametrize("resize", ["squash", "pad", "native"])
def test_rollout_is_one_map_of_the_image(mini, resize):
    image = Image.open(SAND).convert("RGB").crop((0, 0, 320, 200))
    (found,) = mini.explain(image, relevance="rollout", size=96, resize=resize)
    pixels = mini.backbone.preprocess(image, 96, resize)
    assert found.relevance.equal(attention_rollout(mini.backbone, pixels))
    assert (found.name, found.dice, found.heatmap.shape) == ("rollout", None, (200, 320))
    assert found.heatmap.min() < 0.05 and found.heatmap.max() > 0.95


def test_rollout_on_the_command_line(mini, capsys, tmp_path):
    (wanted,) = mini.explain(SAND, relevance="rollout")
    output = tmp_path / "rollout.png"
    code, said = explain(capsys, "--relevance", "rollout", "--output", output, "--json")
    assert code == 0 and json.loads(said)["maps"] == [wanted.to_dict()]
    assert Image.open(output).size[0] > 320


def test_rollout_is_refused_where_it_would_be_inverted(mini, capsys):
    for ask in (mini.caption, mini.embed):
        with pytest.raises(InputError, match=r"one of legrad, .*'rollout'; rollout, .* explain$"):
            ask(SAND, FOX, relevance="rollout")
    for command in (["caption"], ["embed", "--output", "x.safetensors"]):
        assert main([*command, str(SAND), "--mask", str(FOX), "--relevance", "rollout"]) == 2
        said = capsys.readouterr().err
        assert "--relevance: expected one of 'legrad'" in said and said.count("\n") == 1
        assert said.endswith("found 'rollout'; rollout, which can't be inverted, is for explain\n")


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({}, "expected texts, masks or both"),
        ({"texts": ["a fox"], "embedder": "crop"}, "expected maskinversion"),
        ({"texts": "a fox"}, "expected a non-empty list"),
        ({"texts": ["a xyzzy"]}, "does not know 'xyzzy'"),
        ({"texts": ["a fox", " "], "masks": FOX}, "texts: expected words, found an empty text"),
        ({"texts": ["a fox"], "steps": 3}, "steps: is for regions; give masks, or leave it out"),
        ({"texts": ["a fox"], "speed": "fast"}, "speed: is for regions"),
        ({"texts": ["a fox"], "relevance": "rollout"}, "the same for all texts and regions"),
        ({"masks": FOX, "relevance": "rollout"}, "inverted by no embedder"),
        ({"relevance": "rollout", "embedder": "crop"}, "inverted by no embedder"),
        ({"relevance": "rollout", "steps": 3}, "steps: not an option of the relevance rollout"),
        ({"relevance": "rollout", "size": 7}, "size: expected multiples"),
        ({"texts": ["a fox"], "relevance": "attention"}, "relevance: expected"),
        ({"masks": np.zeros((320, 320))}, "is empty"),
    ],
)
def test_bad_questions(mini, question, message):
    with pytest.raises(InputError, match=message):
        mini.explain(SAND, **question)


def explain(capsys, *argv):
    """Exit code, and what was said on stdout or else stderr."""
    code = main(["explain", str(SAND), *map(str, argv)])
    said = capsys.readouterr()
    return code, said.out or said.err


def test_peaks_on_the_command_line(mini, capsys):
    fox, book = mini.explain(SAND, texts=["a fox", "a book"])
    code, said = explain(capsys, "--text", "a fox", "a book")
    lines = [f"{one.name}: peak {one.peak[0]},{one.peak[1]}" for one in (fox, book)]
    assert code == 0 and said.splitlines() == lines


def test_how_a_text_points_at_regions(mini, capsys):
    code, said = explain(capsys, "--text", "a fox", "--mask", FOX, "--json")
    assert code == 0
    text, region = json.loads(said)["maps"]
    (mask,) = as_masks(FOX, (320, 320))
    (wanted,) = mini.explain(SAND, texts=["a fox"])
    share = wanted.share_in(mask)
    assert text["regions"] == [{"region": str(FOX), "peak_inside": True, "share_inside": share}]
    assert region["name"] == str(FOX) and 0.4 < region["dice"] < 1 and "regions" not in region


def test_a_sheet_and_a_strip(capsys, tmp_path):
    sheet, strip = tmp_path / "sheet.png", tmp_path / "strip.png"
    assert explain(capsys, "--text", "a fox", "--mask", LABELS, "--output", sheet)[0] == 0
    options = ["--mask", LABELS, "--steps", 2, "--size", 96, "--output", strip]
    assert explain(capsys, *options, "--over-steps")[0] == 0
    four, nine = Image.open(sheet).size, Image.open(strip).size
    assert four[0] > 4 * 480 and four[1] < 2 * 480  # a text and three regions, in one row
    assert nine[0] > 3 * 480 and nine[1] > 3 * 480  # three regions, after 0, 1 and 2 steps


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "nothing to look for: add --text"),
        (["--text", " "], "--text: expected words"),
        (["--text", "a fox", "--over_steps"], "a text is not"),
        (["--text", "a fox", "--steps", 5], "--steps is for regions"),
        (["--mask", FOX, "--over_steps"], "--over_steps goes with --output"),
        (["--mask", FOX, "--output", "x.pdf"], "x.pdf"),
        (["--mask", FOX, "--output", SAND], "sand.png"),
        (["--mask", FOX, "--relevance", "rollout"], "--mask has no effect on --relevance rollout"),
        (["--text", "a", "--relevance", "rollout"], "--text has no effect on --relevance rollout"),
        (["--relevance", "rollout", "--steps", 3], "--steps has no effect on --relevance rollout"),
        (["--relevance", "rollout", "--compile"], "--compile has no effect on --relevance rollout"),
        (["--relevance", "rollout", "--over_steps"], "--over_steps has no effect"),
        (["--relevance", "rollout", "--size", 7], "size: expected multiples"),
        (
            ["--relevance", "rollout", "--layers", 2],
            "--layers has no effect on --relevance rollout",
        ),
        (["--relevance", "rollout", "--speed", "fast"], "--speed has no effect"),
        (["--mask", FOX, "--relevance", "lrp"], "'chefer', 'rollout', found 'lrp'"),
        (["--mask", FOX, "--steps", "-1"], "steps: expected"),
        (["--mask", FOX, "--embedder", "cls"], "unrecognized arguments: --embedder"),
    ],
)
def test_bad_commands(capsys, options, message):
    code, said = explain(capsys, *options)
    assert code == 2 and message in said and said.count("\n") == 1
