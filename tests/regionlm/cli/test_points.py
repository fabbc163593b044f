"""`--points` on the command line: a region by colour, or by a SAM."""

import json

import numpy as np
import pytest
from PIL import Image

from regionlm.cli.main import main
from regionlm.inputs.images import open_image
from regionlm.inputs.points import Point
from regionlm.points.segmenter import load_segmenter
from tests.regionlm.points.tiny_sam import tiny_sam

POINTS, PLACES = "80,190:100,230:20,20,0", [Point(80, 190), Point(100, 230), Point(20, 20, False)]


@pytest.fixture(scope="module")
def sand(tmp_path_factory):
    """The example's image, and a mask file of what POINTS mark in it."""
    image = open_image("examples/sand.png")
    mask = load_segmenter().mask(image, PLACES)
    path = tmp_path_factory.mktemp("points") / "mask.png"
    Image.fromarray(255 * mask.astype(np.uint8)).save(path)
    return "examples/sand.png", str(path)


@pytest.mark.parametrize(
    "command", [["caption"], ["match", "--text", "a fox", "--text", "a fish"], ["explain"]]
)
def test_points_are_the_region_that_they_mark(sand, command, capsys):
    image, mask = sand
    answers = []
    for region in (["--points", POINTS], ["--mask", mask]):
        assert main([command[0], image, *command[1:], *region, "--device", "cpu", "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        rows = said["regions"] if "regions" in said else said["maps"]
        answers.append({k: v for k, v in rows[0].items() if k not in ("region", "name")})
        assert (f"points {POINTS}" in rows[0].values()) == (region[0] == "--points")
    assert answers[0] == answers[1]


def test_embed_takes_several_regions(sand, tmp_path, capsys):
    output = str(tmp_path / "e.safetensors")
    regions = ["--box", "0,0,50,50", "--points", POINTS, "--points", "240,190"]
    assert main(["embed", sand[0], *regions, "--device", "cpu", "--output", output]) == 0
    assert "[3, " in capsys.readouterr().out


def test_a_sam_finds_the_region_where_one_is_named(tmp_path, capsys):
    for part in tiny_sam():
        part.save_pretrained(tmp_path)
    asked = ["caption", "examples/sand.png", "--points", "80,190", "--device", "cpu", "--json"]
    assert main([*asked, "--sam", str(tmp_path)]) == 0
    [row] = json.loads(capsys.readouterr().out)["regions"]
    image = open_image("examples/sand.png")
    mask = load_segmenter(tmp_path, device="cpu").mask(image, [Point(80, 190)])
    Image.fromarray(255 * mask.astype(np.uint8)).save(tmp_path / "mask.png")
    assert main([*asked[:2], "--mask", str(tmp_path / "mask.png"), *asked[4:]]) == 0
    [same] = json.loads(capsys.readouterr().out)["regions"]
    assert {**row, "region": ""} == {**same, "region": ""}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--points", "1"], "x,y"),
        (["--points", "400,10"], "outside the image"),
        (["--points", "10,10,0"], "at least one inside"),
        (["--box", "0,0,9,9", "--sam", "x"], "--sam goes with --points"),
        (["--points", "10,10", "--sam", "nowhere/at-all", "--offline"], "SAM"),
        ([], "--points X,Y"),
    ],
)
def test_points_that_can_not_be_used_are_one_line(options, words, capsys):
    assert main(["caption", "examples/sand.png", *options]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1
