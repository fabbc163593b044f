"""Drawn stand-ins for the pictograms, so that the world works without the npm registry."""

import colorsys
import os
import sys
from collections.abc import Iterator

from regionlm.threads import sleep_while_waiting

sleep_while_waiting()  # before torch is imported; tests run side by side

import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402
from PIL import Image, ImageDraw  # noqa: E402

from tests import deprecations, documents  # noqa: E402
from tests.parsing import let_threads_parse_in_turn  # noqa: E402
from training.world.names import pictograms  # noqa: E402
from training.world.sprites import STYLES  # noqa: E402

let_threads_parse_in_turn()
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # it looks for a server and tells its makers

# Shared machines stall: a slow example says nothing about the code.
# In CI the same commit draws the same examples each time; elsewhere each run draws new ones.
settings.register_profile(
    "shared",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="CI" in os.environ,
)
settings.load_profile("shared")


@pytest.fixture(autouse=True)
def nothing_deprecated_is_called() -> Iterator[None]:
    """Fail a test in which we call what a library has deprecated."""
    with deprecations.recorded() as found:
        yield
    assert not found, found


@pytest.fixture(autouse=True)
def same_random_numbers() -> None:
    """What a test draws does not depend on the tests before it."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture(scope="session")
def drawn_sprites(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    for order, style in enumerate(STYLES.values()):
        target = folder / "sprites" / f"{style.name}-{style.version}"
        target.mkdir(parents=True)
        for i, name in enumerate(pictograms()):
            colour = colorsys.hsv_to_rgb(i / len(pictograms()), 0.9, 0.9)
            picture = Image.new("RGBA", (40 + i % 7, 30 + order))
            fill = (*(round(255 * c) for c in colour), 255)
            ImageDraw.Draw(picture).rectangle([2, 2, picture.width - 3, picture.height - 3], fill)
            picture.save(target / f"{name}.png")
    return folder


@pytest.fixture
def world(drawn_sprites, monkeypatch):
    monkeypatch.setenv("REGIONLM_CACHE", str(drawn_sprites))
    return drawn_sprites


@pytest.fixture
def in_checkout(tmp_path, monkeypatch):
    """A folder that looks like the checkout but collects what the commands write.

    Of the scenes to train on it has enough for one batch: to invert all regions takes a minute.
    """
    for name in ("configs", "examples", "regionlm"):
        (tmp_path / name).symlink_to(documents.ROOT / name)
    all_scenes, scenes = (root / "training/first_hour" for root in (documents.ROOT, tmp_path))
    scenes.mkdir(parents=True)
    (scenes / "images").symlink_to(all_scenes / "images")
    lines = (all_scenes / "regions.jsonl").read_text().splitlines(keepends=True)
    (scenes / "regions.jsonl").write_text("".join(lines[:48]))
    monkeypatch.chdir(tmp_path)
