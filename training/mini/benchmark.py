"""Compose the bundled benchmark: held-out scenes of the mini world in PhraseCut's format on disk.

`python -m training.mini.benchmark` writes what ships in `regionlm/datasets/mini_benchmark` (fetches
the pictograms from the npm registry).
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from regionlm.datasets.mini import FOLDER, in_held_out_style
from regionlm.extras import extra
from training.world.names import phrase, pictograms
from training.world.render import render
from training.world.scene_batches import scene_rng
from training.world.scenes import Scene, sample_scene
from training.world.sprites import HELD_OUT_STYLES, TRAINING_STYLES, SpriteBook

with extra("eval"):
    from contourpy import LineType, contour_generator


SEED = 3000  # used for no training and no other measurement
SIDE = 256  # pixels
COUNTS = (2, 3, 4)  # things in a scene, in turn


def make_benchmark(folder: Path = FOLDER, scenes: int = 240) -> None:
    """Write images, refer_test.json and image_data_split.json.

    Every sixth scene has a style that `mini` has never seen.

    Args:
        folder: folder to write to.
        scenes: number of scenes.
    """
    books = [SpriteBook(styles) for styles in (TRAINING_STYLES, HELD_OUT_STYLES)]
    (folder / "images").mkdir(parents=True, exist_ok=True)
    tasks: list[dict[str, Any]] = []
    images: list[dict[str, Any]] = []
    for number in range(scenes):
        book = books[in_held_out_style(number)]
        scene, picture, masks = _draw(number, book)
        picture.save(folder / "images" / f"{number}.jpg", quality=90)
        images.append(
            {"image_id": number, "width": SIDE, "height": SIDE, "url": "", "split": "test",
             "coco_id": None, "flickr_id": None}
        )  # fmt: skip
        tasks += [_task(number, i, scene, mask) for i, mask in enumerate(masks)]
    _write(folder / "image_data_split.json", images)
    _write(folder / "refer_test.json", tasks)
    _write(folder / "classes.json", {name: phrase(name) for name in pictograms()})


def _draw(number: int, book: SpriteBook) -> tuple[Scene, Any, np.ndarray]:
    """The first scene of this number in which all things are visible."""
    attempt = 0
    while True:
        rng = scene_rng(SEED, number, attempt)
        scene = sample_scene(rng, COUNTS[number % len(COUNTS)], styles=book.styles)
        picture, masks = render(scene, book, SIDE)
        if (masks.sum((1, 2)) >= 64).all():
            return scene, picture, masks
        attempt += 1


def _task(image: int, index: int, scene: Scene, mask: np.ndarray) -> dict[str, Any]:
    thing = scene.things[index]
    rows, cols = np.nonzero(mask)
    box = [cols.min(), rows.min(), np.ptp(cols) + 1, np.ptp(rows) + 1]
    return {
        "task_id": f"{image}__{index}",
        "image_id": image,
        "ann_ids": [index],
        "instance_boxes": [[int(value) for value in box]],
        "Polygons": [outlines(mask)],
        "phrase": thing.phrase,
        "phrase_structure": {
            "name": thing.name,
            "attributes": [thing.tint] if thing.tint else [],
            "relation_ids": [],
            "relation_descriptions": [["on", thing.place]] if thing.place else [],
            "type": "name",
        },
    }


def outlines(mask: np.ndarray) -> list[list[list[int]]]:
    """Polygons of [x, y] through the border pixels of a mask, bool ``[H, W]``, as in PhraseCut.

    The format has no holes, so their outlines are left out.
    """
    padded = np.pad(mask.astype(float), 1)
    # Just below the inside's level, contours run along the centres of the border pixels.
    lines = contour_generator(z=padded, line_type=LineType.Separate).lines(0.999)
    found = []
    for line in lines:
        corners = np.asarray(line, dtype=float)
        points = np.rint(corners).astype(int) - 1
        if _signed_area(corners) > 0:
            found.append(_corners(points))
    return found


def _signed_area(line: np.ndarray) -> float:
    """The area of an outline, positive if the inside is on the left, as of an outer one."""
    x, y = line[:, 0], line[:, 1]
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum()) / 2


def _corners(points: np.ndarray) -> list[list[int]]:
    """The points at which the outline turns."""
    points = points[np.r_[True, (np.diff(points, axis=0) != 0).any(1)]]
    if len(points) > 1 and (points[0] == points[-1]).all():
        points = points[:-1]
    if len(points) < 3:
        return [points[0].tolist(), points[-1].tolist()]
    before, after = points - np.roll(points, 1, 0), np.roll(points, -1, 0) - points
    turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    back = (before * after).sum(1) < 0
    return points[turns | back].tolist()


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(make_benchmark, as_positional=False)
