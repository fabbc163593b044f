"""The things of a scene, and its captions; `render` draws it.

Lengths are fractions of the side of the canvas, so a scene can be drawn at any size.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from training.world.names import PLACES, TINTS, phrase, pictograms

BACKGROUNDS = ("plain", "gradient", "blobs", "checks")
SIDES = {1: (0.28, 0.95), 2: (0.28, 0.60), 3: (0.28, 0.50), 4: (0.25, 0.42)}


@dataclass(frozen=True)
class Thing:
    """One thing. x, y: its centre. side: its longer side before it is rotated."""

    name: str
    style: str
    tint: str | None
    place: str | None
    x: float
    y: float
    side: float
    angle: float  # degrees
    mirror: bool

    @property
    def phrase(self) -> str:
        """The region phrase, such as "a red car on the snow"."""
        return phrase(self.name, self.tint, self.place)


@dataclass(frozen=True)
class Scene:
    """Things from back to front, on a background, perhaps with a ground below `horizon`."""

    things: tuple[Thing, ...]
    background: str
    place: str | None
    horizon: float
    paint_seed: int  # of the background's colours and texture

    def caption(self, order: Iterable[int]) -> str:
        """All phrases in the given order: "a fox, a red car on the snow and an owl"."""
        phrases = [self.things[i].phrase for i in order]
        return " and ".join([", ".join(phrases[:-1]), phrases[-1]]) if phrases[1:] else phrases[0]

    def falsified(self, rng: np.random.Generator) -> "Scene":
        """The same scene with another thing, tint or place in one word, for hard negatives."""
        which = int(rng.integers(len(self.things)))
        thing = self.things[which]
        kind = rng.random()
        if kind < 0.15:
            thing = replace(thing, tint=_other(rng, [*TINTS, None], thing.tint))
        elif kind < 0.25:
            thing = replace(thing, place=_other(rng, [*PLACES, None], thing.place))
        else:
            present = {thing.name for thing in self.things}
            names = [name for name in pictograms() if name not in present]
            thing = replace(thing, name=names[rng.integers(len(names))])
        return replace(self, things=(*self.things[:which], thing, *self.things[which + 1 :]))


def sample_scene(
    rng: np.random.Generator,
    count: int,
    *,
    styles: tuple[str, ...],
    sides: tuple[float, float] | None = None,
) -> Scene:
    """Sample a random scene.

    Args:
        rng: source of all randomness.
        count: number of things, 1 to 4.
        styles: drawing styles, of which each thing gets one.
        sides: bounds of a thing's size; None: sizes at which `count` things fit.
    """
    known = list(pictograms())
    names = [known[i] for i in rng.choice(len(known), size=count, replace=False)]
    place = str(rng.choice(PLACES)) if rng.random() < 0.5 else None
    horizon = float(rng.uniform(0.35, 0.65))
    things: list[Thing] = []
    for name in names:
        bounds = sides or SIDES[count]
        things.append(_sample_thing(rng, name, bounds, things, styles, place, horizon))
    return Scene(
        tuple(things), str(rng.choice(BACKGROUNDS)), place, horizon, int(rng.integers(2**31))
    )


def _sample_thing(
    rng: np.random.Generator,
    name: str,
    sides: tuple[float, float],
    others: list[Thing],
    styles: tuple[str, ...],
    place: str | None,
    horizon: float,
) -> Thing:
    tint = str(rng.choice(list(TINTS))) if rng.random() < 0.35 else None
    style = str(rng.choice(styles))
    angle = float(rng.normal(0, 12))
    mirror = bool(rng.random() < 0.5)
    best, best_overlap = None, np.inf
    for _ in range(30):
        side = float(rng.uniform(*sides))
        x, y, on_ground = _sample_position(rng, side, place, horizon)
        overlap = max((_overlap(x, y, side, other) for other in others), default=0.0)
        if overlap < best_overlap:
            ground = place if on_ground else None
            best = Thing(name, style, tint, ground, x, y, side, angle, mirror)
            best_overlap = overlap
        if overlap < 0.2:  # a little occlusion is wanted, hidden things are not
            break
    assert best is not None
    return best


def _sample_position(
    rng: np.random.Generator, side: float, place: str | None, horizon: float
) -> tuple[float, float, bool]:
    margin = 0.45 * side  # a tenth of a thing may be cut by the frame
    x = rng.uniform(margin, 1 - margin)
    if place is None:
        return float(x), float(rng.uniform(margin, 1 - margin)), False
    foot_room = 1 - horizon - 0.08
    if rng.random() < 0.6 or side > horizon:
        foot = horizon + 0.08 + foot_room * rng.random()
        return float(x), float(max(foot - side / 2, margin)), True
    return float(x), float(rng.uniform(margin, max(margin, horizon - side / 2))), False


def _other(rng: np.random.Generator, choices: list[str | None], but: str | None) -> str | None:
    left = [choice for choice in choices if choice != but]
    return left[rng.integers(len(left))]


def _overlap(x: float, y: float, side: float, other: Thing) -> float:
    """Shared area of the two bounding squares over the smaller one's area."""
    reach = (side + other.side) / 2
    width = min(reach - abs(x - other.x), side, other.side)
    height = min(reach - abs(y - other.y), side, other.side)
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / min(side, other.side) ** 2
