"""The tools answer what the Python API answers, in figures, words and pictures."""

import base64
import io
import json
import re

import jsonschema
import numpy as np
import pytest
from PIL import Image

from regionlm import RegionEncoder
from regionlm.errors import InputError
from regionlm.tools import TOOLS, Bounds, Workspace, call, offered
from regionlm.tools.peaks import part_with_peak
from regionlm.tools.regions import box_around
from regionlm.tools.workspace import Remembered
from tests.regionlm.tools.conftest import EXAMPLES

BOX = {"box": [0, 0, 9, 9]}


@pytest.fixture
def ask(mini, workspace):
    """Run a tool; its answer must fit its schema."""

    def run(name, **arguments):
        answer = call(name, json.dumps(arguments), captioner=mini, workspace=workspace)
        jsonschema.validate(answer.structured, TOOLS[name].output_schema)
        json.dumps(answer.structured)
        for picture in answer.pictures:
            assert Image.open(io.BytesIO(picture)).format == "PNG"
        return answer

    return run


def data_uri(path):
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def test_captions_are_those_of_the_python_api(ask, mini):
    regions = [{"mask": "sand-labels.png"}, {"mask": "sand-fox.png", "id": "it"}]
    answer = ask("caption_regions", image="sand.png", regions=regions)
    masks = [str(EXAMPLES / "sand-labels.png"), str(EXAMPLES / "sand-fox.png")]
    expected = mini.caption(EXAMPLES / "sand.png", masks)
    rows = answer.found.regions
    assert [row.caption for row in rows] == [one.text for one in expected]
    assert [row.dice for row in rows] == [one.dice for one in expected]
    assert [row.region for row in rows] == [f"sand-labels.png#{i}" for i in (1, 2, 3)] + ["it"]
    heading, *said = answer.text.splitlines()
    assert heading == f"{answer.found.image}: 320 x 320 pixels"
    assert said == [f"{row.region}: {row.caption}" for row in rows]
    assert answer.pictures == []


def test_label_maps_keep_their_labels_under_an_id(ask):
    regions = [{"mask": "sand-labels.png", "id": "thing"}]
    answer = ask("caption_regions", image="sand.png", regions=regions, heatmap=True)
    assert [one.region for one in answer.found.regions] == ["thing#1", "thing#2", "thing#3"]
    assert len(answer.pictures) == 1


def test_an_image_is_asked_for_by_path_uri_and_id_alike(ask):
    box = [{"box": [40, 130, 160, 260]}]
    by_path = ask("caption_regions", image="sand.png", regions=box)
    by_uri = ask("caption_regions", image=data_uri(EXAMPLES / "sand.png"), regions=box)
    by_id = ask("caption_regions", image=by_path.found.image, regions=box)
    assert by_path == by_uri == by_id
    assert by_path.found.regions[0].region == "box 40,130,160,260"
    assert by_path.found.regions[0].box == [40, 130, 160, 260]


def test_all_forms_of_a_region_say_the_same(ask):
    ones = 120 * 320
    regions = [
        {"box": [0, 0, 320, 120]},
        {"polygon": [[0, 0, 320, 0, 320, 120, 0, 120]]},
        {"rle": {"size": [320, 320], "counts": [0] + [120, 200] * 320}},
    ]
    rows = ask("caption_regions", image="sand.png", regions=regions).found.regions
    assert [row.box for row in rows] == [[0, 0, 320, 120]] * 3
    assert len({(row.caption, row.dice) for row in rows}) == 1
    assert ones == 320 * 120


def test_points_mark_what_is_under_them(ask):
    answer = ask("show_region", image="sand.png", regions=[{"points": [[105, 200], [300, 20, 0]]}])
    fox = np.asarray(Image.open(EXAMPLES / "sand-fox.png").convert("L")) > 127
    (shown,) = answer.found.regions
    x0, y0, x1, y1 = shown.box
    assert fox[y0:y1, x0:x1].mean() > 0.3 and 0.01 < shown.coverage < 0.2


def test_points_are_given_to_the_workspaces_segmenter(mini, root):
    class Corner:
        def mask(self, image, points):
            assert image.size == (320, 320) and [(p.x, p.y) for p in points] == [(5, 6)]
            mask = np.zeros((320, 320), bool)
            mask[:30, :40] = True
            return mask

    space = Workspace(root, segmenter=Corner())
    arguments = {"image": "sand.png", "regions": [{"points": [[5, 6]]}]}
    answer = call("show_region", arguments, captioner=mini, workspace=space)
    assert answer.found.regions[0].box == [0, 0, 40, 30]


def test_an_image_is_described_as_a_whole_and_by_cells(ask, mini):
    answer = ask("describe_image", image="sand.png", grid=[2, 3])
    rows = answer.found.regions
    assert len(rows) == 7 and len(answer.text.splitlines()) == 8
    whole = np.ones((320, 320), bool)
    assert rows[0].caption == mini.caption(EXAMPLES / "sand.png", whole, steps=0)[0].text
    assert rows[0].box == [0, 0, 320, 320] and rows[1].box == [0, 0, 106, 160]
    assert rows[-1].region == "row 2 column 3" and rows[-1].box == [213, 160, 320, 320]


def test_an_image_is_described_by_regions(ask):
    answer = ask("describe_image", image="sand.png", regions=[{"mask": "sand-fox.png"}])
    assert [row.region for row in answer.found.regions] == ["whole image", "sand-fox.png"]
    assert "fox" in answer.text.splitlines()[2]


def test_texts_are_ranked(ask):
    answer = ask(
        "match_region",
        image="sand.png",
        region={"mask": "sand-fox.png"},
        texts=["a book", "a fox", "a fish"],
    )
    ranking = answer.found.ranking
    assert ranking[0].text == "a fox"
    assert sum(one.probability for one in ranking) == pytest.approx(1)
    assert answer.text.splitlines()[1] == f"a fox: {100 * ranking[0].probability:.1f}%"


def test_what_is_found_can_be_asked_about(ask):
    found = ask("find_region", image="sand.png", text="a fox").found
    fox = np.asarray(Image.open(EXAMPLES / "sand-fox.png").convert("L")) > 127
    x, y = found.peak
    assert fox[y, x]
    x0, y0, x1, y1 = found.box
    assert fox[y0:y1, x0:x1].sum() > 0.7 * fox.sum()
    assert 0 < found.share < 1 and 0 < found.coverage < 0.3
    matched = ask(
        "match_region", image=found.image, region={"mask": found.mask}, texts=["a fox", "a book"]
    )
    assert matched.found.ranking[0].text == "a fox" and matched.found.region == found.mask
    more = ask("find_region", image="sand.png", text="a fox", threshold=0.2).found
    assert more.coverage > found.coverage


def test_regions_are_shown_in_their_places(ask):
    alone = ask("show_region", image="sand.png")
    answer = ask("show_region", image="sand.png", regions=[{"box": [0, 0, 50, 50]}])
    before, after = (np.asarray(Image.open(io.BytesIO(one.pictures[0]))) for one in (alone, answer))
    assert before.shape == after.shape == (320, 320, 3)
    changed = (before != after).any(2)
    assert changed[:50, :50].mean() > 0.9 and not changed[52:, 52:].any()
    assert answer.found.regions[0].number == 1 and answer.found.regions[0].region == "box 0,0,50,50"


def test_large_images_are_shown_small(ask, root):
    Image.new("RGB", (3000, 1500), "navy").save(root / "large.png")
    answer = ask("show_region", image="large.png", regions=[{"box": [2999, 0, 3000, 1]}])
    assert Image.open(io.BytesIO(answer.pictures[0])).size == (1024, 512)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("caption", {}, "caption: no such tool; there are caption_regions, match_region"),
        ("find_region", {"text": "a fox"}, "image: find_region needs it"),
        ("find_region", {"image": "sand.png", "text": " "}, "text: expected a text of 1 to 1000"),
        ("find_region", {"image": "sand.png", "text": "x" * 1001}, "text: expected a text of 1"),
        ("find_region", {"image": "sand.png", "text": "fox", "threshold": 0}, "threshold: "),
        ("caption_regions", {"image": "sand.png", "regions": []}, "regions: expected at least"),
        ("caption_regions", {"image": "sand.png", "regions": [{}]}, "a region has exactly one"),
        (
            "caption_regions",
            {"image": "sand.png", "regions": [{"box": [0, 0, 1, 1], "mask": "sand-fox.png"}]},
            "a region has exactly one",
        ),
        (
            "caption_regions",
            {"image": "sand.png", "regions": [{"box": [0, 0, 321, 1]}]},
            "box 0,0,321,1 reaches outside",
        ),
        (
            "caption_regions",
            {"image": "sand.png", "regions": [{"mask": "/etc/passwd"}]},
            "'/etc/passwd' is not a path in the folder",
        ),
        (
            "caption_regions",
            {"image": "sand.png", "regions": [{"mask": "mask-0000"}]},
            "'mask-0000': no such file, and no earlier",
        ),
        (
            "match_region",
            {"image": "sand.png", "region": {"mask": "sand-labels.png"}, "texts": ["a"]},
            "region: expected one, found 3",
        ),
        (
            "match_region",
            {"image": "sand.png", "region": {"mask": "sand-fox.png"}, "texts": []},
            "texts: expected at least one",
        ),
        ("describe_image", {"image": "sand.png", "grid": [0, 3]}, "grid: expected"),
        ("describe_image", {"image": "sand.png", "grid": [3]}, "grid: expected"),
        ("describe_image", {"image": "data:,hello"}, "image data: URI can't be read as an image"),
    ],
)
def test_mistakes_are_said_in_one_line(mini, workspace, name, arguments, message):
    with pytest.raises(InputError) as caught:
        call(name, arguments, captioner=mini, workspace=workspace)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value) and str(workspace.root) not in str(caught.value)


@pytest.mark.parametrize("arguments", ["", "{", "[1]", "nonsense"])
def test_arguments_that_are_no_json(mini, arguments):
    with pytest.raises(InputError, match="arguments: expected a JSON object"):
        call("show_region", arguments, captioner=mini)


def test_bounds(mini, root):
    space = Workspace(root, Bounds(pixels=320 * 320 - 1))
    with pytest.raises(InputError, match=r"at most 0\.102399 million pixels"):
        call("show_region", {"image": "sand.png"}, captioner=mini, workspace=space)
    space = Workspace(root, Bounds(regions=2, texts=1))
    box = {"box": [0, 0, 9, 9]}
    for name, arguments in [
        ("show_region", {"regions": [box] * 3}),
        ("show_region", {"regions": [{"mask": "sand-labels.png"}]}),
        ("describe_image", {}),
    ]:
        with pytest.raises(InputError, match="at most 2"):
            call(name, {"image": "sand.png", **arguments}, captioner=mini, workspace=space)
    space.bounds = Bounds(texts=1, points=2)
    marked = {"points": [[9, 9], [8, 8], [7, 7]]}
    with pytest.raises(InputError, match="points: expected at most 2 of a region, found 3"):
        call(
            "caption_regions",
            {"image": "sand.png", "regions": [box, marked]},
            captioner=mini,
            workspace=space,
        )
    with pytest.raises(InputError, match="texts: expected at most 1, found 2"):
        call(
            "match_region",
            {"image": "sand.png", "region": box, "texts": ["a", "b"]},
            captioner=mini,
            workspace=space,
        )


def test_masks_of_a_large_image_are_bounded_in_memory(mini, root):
    space = Workspace(root, Bounds(masks_mib=1))  # ten masks of 320 x 320
    arguments = {"image": "sand.png", "regions": [{"box": [0, 0, 9, 9]}] * 11}
    with pytest.raises(InputError, match="at most 10 of an image of 320 x 320 pixels, found 11"):
        call("show_region", arguments, captioner=mini, workspace=space)
    labels = np.repeat(np.arange(320, dtype=np.uint8)[None] // 8, 320, 0)
    Image.fromarray(labels).save(root / "labels.png")
    arguments["regions"] = [{"mask": "labels.png"}]
    with pytest.raises(InputError, match="expected at most 10 regions, found more labels"):
        call("show_region", arguments, captioner=mini, workspace=space)


def test_an_id_is_forgotten_when_there_are_others(mini, root):
    space = Workspace(root, Bounds(kept=1))
    first = call("show_region", {"image": "sand.png"}, captioner=mini, workspace=space)
    call("show_region", {"image": "sand-fox.png"}, captioner=mini, workspace=space)
    with pytest.raises(InputError, match="no earlier image or mask is remembered by this id"):
        call("show_region", {"image": first.found.image}, captioner=mini, workspace=space)


def test_images_and_masks_are_remembered_in_one_memory(mini, root):
    masks = [np.zeros((320, 320), bool) for _ in range(9)]
    for number, mask in enumerate(masks):
        mask[number] = True
    space = Workspace(root, Bounds(kept_mib=7.5 * masks[0].nbytes / 2**20))
    key, view = space.image("sand.png")  # as large as three masks
    kept = [space.keep_mask(mask) for mask in masks]
    for forgotten in kept[:-7]:
        with pytest.raises(InputError, match="no earlier image or mask is remembered by this id"):
            space.masks(forgotten, view.size)
    with pytest.raises(InputError, match="no earlier image or mask is remembered by this id"):
        space.image(key)  # the oldest of them all
    for name, mask in zip(kept[-7:], masks[-7:], strict=True):
        (found,) = space.masks(name, view.size)
        assert np.array_equal(found.mask, mask)


def test_an_id_of_a_mask_is_no_image_and_the_other_way_round(mini, root):
    space = Workspace(root)
    key, view = space.image("sand.png")
    mask = space.keep_mask(np.ones((320, 320), bool))
    with pytest.raises(InputError, match="no such file"):
        space.image(mask)
    with pytest.raises(InputError, match="is an image's id; give the id of a mask"):
        space.masks(key, view.size)


def test_what_was_asked_for_last_is_remembered():
    kept = Remembered(3, 100, len)
    for name in "abc":
        kept.keep(name, [name])
    kept.get("a")
    kept.keep("d", ["d"])
    assert [kept.get(name) for name in "abcd"] == [["a"], None, ["c"], ["d"]]
    assert kept.keep("c", ["another"]) == ["c"]
    kept.get("c").extend("grown" * 20)
    kept.keep("e", ["e"])
    assert len(kept) == 1 and kept.get("e") == ["e"]
    kept.keep("f", ["f"] * 1000)
    assert len(kept.get("f")) == 1000 and len(kept) == 1


def test_a_workspace_is_a_folder(tmp_path):
    with pytest.raises(InputError, match="root: expected a folder"):
        Workspace(tmp_path / "none")


def test_a_model_without_captions_still_matches_and_finds(root, workspace):
    encoder = RegionEncoder.from_pretrained("mini-siglip", device="cpu")
    names = [tool.name for tool in offered(encoder)]
    assert names == ["match_region", "find_region", "show_region"]
    with pytest.raises(InputError, match="caption_regions: this model can't caption; take one of"):
        call(
            "caption_regions",
            {"image": "sand.png", "regions": [{"box": [0, 0, 9, 9]}]},
            captioner=encoder,
            workspace=workspace,
        )
    arguments = {"image": "sand.png", "text": "a fox"}
    call("find_region", arguments, captioner=encoder, workspace=workspace)


def test_without_captioner_and_workspace_it_is_mini_and_the_current_folder(root, monkeypatch):
    monkeypatch.chdir(root)
    answer = call("describe_image", {"image": "sand.png", "grid": [1, 1]})
    again = call("show_region", {"image": answer.found.image})
    assert again.found.image == answer.found.image


def test_the_part_with_the_peak():
    heatmap = np.zeros((300, 400), np.float32)
    heatmap[20:60, 30:90] = 0.6
    heatmap[200:220, 300:350] = 1
    heatmap[220:240, 349:390] = 0.55  # touches the peak's part
    heatmap[290, 0] = 0.4
    mask = part_with_peak(heatmap, 0.5)
    assert box_around(mask) == [300, 200, 390, 240]
    assert mask.sum() == 20 * 50 + 20 * 41
    assert part_with_peak(heatmap, 1.0).sum() == 20 * 50


def test_many_maps_are_several_pictures_that_a_model_can_be_shown(ask):
    regions = [{"box": [0, 0, 60, 60 + i]} for i in range(9)]
    answer = ask("caption_regions", image="sand.png", regions=regions, heatmap=True)
    sizes = [Image.open(io.BytesIO(one)).size for one in answer.pictures]
    assert len(sizes) == 3
    assert all(width * height < 1.3e6 for width, height in sizes)


@pytest.mark.parametrize(
    ("tool", "given", "said"),
    [
        (
            "match_region",
            {"region": BOX, "texts": ["a fox", ""]},
            "texts: expected a list of texts",
        ),
        ("match_region", {"region": BOX, "texts": ["a" * 1001]}, "each of 1 to 1000 characters"),
        ("caption_regions", {"regions": [{"points": [80, 190]}]}, "points: expected [[x, y], ...]"),
        (
            "caption_regions",
            {"regions": [{"polygon": [0, 0, 99, 0, 99, 99]}]},
            "polygon: expected [[x0, y0, x1, y1, x2, y2, ...], ...]",
        ),
        ("describe_image", {"grid": [9, 9]}, "grid: expected at most 64 cells"),
        ("caption_regions", {"regions": [BOX, {"id": "b"}]}, "regions[1]: "),
    ],
)
def test_an_error_says_what_to_change(ask, tool, given, said):
    with pytest.raises(InputError, match=re.escape(said)):
        ask(tool, image="sand.png", **given)


@pytest.mark.parametrize("arguments", ["[" * 100_000, '{"text":' * 100_000])
def test_arguments_nested_too_deeply_are_refused(arguments):
    with pytest.raises(InputError, match="JSON object"):
        call("find_region", arguments)


def test_a_region_nested_too_deeply_is_refused(mini, workspace):
    deep = []
    for _ in range(5000):
        deep = [deep]
    arguments = {"image": "sand.png", "regions": [{"rle": {"size": deep, "counts": []}}]}
    with pytest.raises(InputError, match="nested too deeply"):
        call("show_region", arguments, captioner=mini, workspace=workspace)


@pytest.mark.parametrize("name", ["none", "", [], None])
def test_what_is_no_tool_is_refused(name):
    with pytest.raises(InputError, match="no such tool; there are caption_regions"):
        call(name, {})
