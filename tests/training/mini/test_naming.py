"""The measurement behind MINI.md, on a few scenes of drawn stand-ins for the pictograms."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from regionlm import RegionCaptioner
from training.mini import naming
from training.mini.naming import baseline, draw_scenes, localized, measure, noun, score, sweeps
from training.world.sprites import TRAINING_STYLES

DEFAULTS = {"lr": 0.5, "alpha": 0.0, "size": 192, "steps": 10}


@pytest.fixture(scope="module")
def mini():
    return RegionCaptioner.from_pretrained("mini", device="cpu")


@pytest.fixture
def data(world):
    return draw_scenes(2, TRAINING_STYLES, seed=7)


def test_noun_is_the_first_thing_and_the_longest_of_its_names():
    assert noun("a red car on the snow and an owl") == "car"
    assert noun("a palm tree on the sand") == "palm tree"  # "tree" is a thing, too
    assert noun("a hot dog") == "hot dog" and noun("a dog") == "dog"
    assert noun("the carpet is red") is None and noun("") is None


def test_examples_show_three_things_and_are_the_same_again(data, world):
    again = draw_scenes(2, TRAINING_STYLES, seed=7)
    for one, other in zip(data, again, strict=True):
        assert len(one.scene.things) == 3 and one.masks.shape == (3, 256, 256)
        assert one.masks.any((1, 2)).all() and one.picture.size == (256, 256)
        assert one.scene == other.scene and np.array_equal(one.masks, other.masks)
    assert data[0].scene != data[1].scene
    assert draw_scenes(1, TRAINING_STYLES, seed=8)[0].scene != data[0].scene


def test_score_is_the_mean_over_regions(mini, data):
    """With the phrases' own embeddings every region picks its phrase; in another order, none."""
    scenes = {id(one.picture): one.scene for one in data}
    fits = torch.tensor([[0.5, 0.25, 0.0], [0.2, 0.1, 0.0]])

    def phrases(order):
        def embed(picture, masks):
            texts = [scenes[id(picture)].things[i].phrase for i in order]
            return normalize(mini.backbone.embed_texts(texts), dim=1), fits

        return embed

    right, wrong = (score(mini, data, phrases(order)) for order in ((0, 1, 2), (1, 2, 0)))
    assert (right[0], wrong[0]) == (1, 0)
    assert right[3:] == pytest.approx([0.25, 0.1])
    assert all(0 <= share <= 1 for share in right + wrong)


def test_names_are_counted_as_the_captions_have_them(mini, data):
    embed = localized(mini, steps=2)
    counted = score(mini, data, embed)
    for column, prefix in ((1, naming.ADAPTED), (2, naming.ZERO_SHOT)):
        model = mini.prefix_model.with_prefix(prefix)
        hits = [
            noun(text.text) == thing.name
            for one in data
            for text, thing in zip(
                model.generate(embed(one.picture, one.masks)[0], max_new_tokens=40),
                one.scene.things,
                strict=True,
            )
        ]
        assert counted[column] == pytest.approx(sum(hits) / len(hits))
    assert 0 <= counted[4] <= counted[3] <= 1  # IoU, Dice


def test_other_embedders_have_no_fit(mini, data):
    row = score(mini, data, baseline(mini, "cls"))
    assert row[0] == pytest.approx(1 / 3)  # one vector for three regions
    assert np.isnan(row[3:]).all()


def test_sweeps_change_one_option_at_a_time():
    first, *others = sweeps(DEFAULTS)
    assert first == DEFAULTS
    changes = [{k: v for k, v in one.items() if v != DEFAULTS[k]} for one in others]
    assert all(len(change) == 1 for change in changes)
    assert {next(iter(change)) for change in changes} == set(DEFAULTS)
    assert len({str(change) for change in changes}) == len(changes)


def test_measure_writes_a_table(world, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(naming, "sweeps", lambda defaults: [defaults, {**defaults, "steps": 1}])
    measure(scenes=1, sweep_scenes=1, output=tmp_path / "MINI.md")
    text = (tmp_path / "MINI.md").read_text()
    assert text in capsys.readouterr().out
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    names = [row.split(" | ")[0].removeprefix("| ") for row in rows]
    table = ["embedding", "MaskInversion", "image embedding", "crop", "masked crop"]
    assert names == [*table, *table, "embedding", "defaults", "steps 1"]
    assert all(row.count("|") == 7 for row in rows)
