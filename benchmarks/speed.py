"""The trade-off of ``speed="fast"``: time against cosine to the exact vector, by number of rows.

    python benchmarks/speed.py                                # ViT-B/16, random weights, 448 px
    python benchmarks/speed.py --mini 240                     # and the bundled benchmark, 192 px
    python benchmarks/speed.py --mini 240 --plot docs/images/speed.png

Seconds are CPU seconds of one thread for the whole call, image forward included, the least of
``--repeats`` calls that take turns, so a busy machine adds little to them. Weights, image and masks
come from seeds; the bundled benchmark has trained weights.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from published.cases import VISION, build_model, image_array, mask_arrays
from torch import Tensor

from eval.tasks import LocalizedCaptioning, ReferringRetrieval, caption_metrics, referring_metrics
from regionlm.backbones import ClipViT
from regionlm.captioner import RegionCaptioner
from regionlm.datasets import open_dataset
from regionlm.datasets.sample import Sample
from regionlm.embedders.localized import Localized
from regionlm.embedders.maskinversion import MaskInversion
from regionlm.relevance.few_rows import few_rows
from regionlm.relevance.methods import Relevance

ROWS = (16, 24, 32, 49, 64, 98, 196, 392)
TIMED = 10  # masks


class RoughStart(MaskInversion):
    """Also takes the first step by the map of few rows."""

    def _descend(self, method: Relevance, rough: Relevance, *others: Any) -> tuple[Tensor, Tensor]:
        return super()._descend(rough, rough, *others)


@dataclass(frozen=True)
class Point:
    """One number of rows; cosines and Dice against the exact results, ``[M]``."""

    name: str
    rows: int  # as taken
    seconds: float
    ratio: float  # exact seconds over these
    cosines: Tensor
    dice: Tensor  # exact map of the vector, less that of the exact vector

    def cells(self, patches: np.ndarray) -> list[str]:
        """Of the table; ``patches [M]``: areas of the masks."""
        large = self.cosines[torch.from_numpy(patches >= 4)]
        return [
            self.name, str(self.rows), f"{self.seconds:.2f}", f"{self.ratio:.2f}",
            f"{self.cosines.mean():.4f}", f"{large.min():.4f}", f"{self.cosines.min():.4f}",
            f"{self.dice.mean():+.4f}", f"{self.dice.abs().max():.4f}",
        ]  # fmt: skip


def fast_embedder(
    backbone: ClipViT, rows: int, of: type[MaskInversion] = MaskInversion, **options: Any
) -> MaskInversion:
    """``speed="fast"`` with another number of rows."""
    embedder = of(backbone, speed="fast", **options)
    embedder.fast_rows = rows
    return embedder


def random_curve(options: argparse.Namespace) -> Iterator[Point]:
    """Points of a model with random weights, first the exact one; prints their table."""
    backbone = ClipViT(build_model(options.model))
    pixels = backbone.preprocess(Image.fromarray(image_array()), options.size)
    masks = mask_arrays(options.masks)
    encoded = backbone.encode(pixels[None])
    patches = masks.mean((1, 2)) * np.prod(encoded.grid)
    print(
        f"{options.model}, random weights, {options.size} px, K = 10, lr {options.lr}; seconds of"
        f" {TIMED} masks, the rest of {len(masks)}, {(patches >= 4).sum()} of them of 4 patches"
        " or more\n"
    )
    print(
        "| vectors | rows | CPU s | exact / this | mean cosine | least, >= 4 patches | least |"
        " Dice, mean | Dice, most |"
    )
    print("|---" * 9 + "|")
    exact = MaskInversion(backbone, size=options.size, lr=options.lr)
    whole = encoded.residual.shape[1]
    wanted = exact(pixels, masks)
    shared = {"size": options.size, "lr": options.lr}
    plans = [(rows, MaskInversion) for rows in options.rows]
    plans += [(rows, RoughStart) for rows in options.rough_start]
    embedders = [fast_embedder(backbone, rows, of, **shared) for rows, of in plans]
    seconds = least_seconds([exact, *embedders], pixels, masks[:TIMED], options.repeats)
    yield _said(Point("exact", whole, seconds[0], 1.0, *_compare(wanted, wanted)), patches)
    for (rows, of), embedder, taken in zip(plans, embedders, seconds[1:], strict=True):
        some = few_rows(encoded, rows)
        name = "fast" if of is MaskInversion else "first step, too"
        count = whole if some is None else len(some)
        compared = _compare(embedder(pixels, masks), wanted)
        yield _said(Point(name, count, taken, seconds[0] / taken, *compared), patches)


def _said(point: Point, patches: np.ndarray) -> Point:
    print("| " + " | ".join(point.cells(patches)) + " |", flush=True)
    return point


def _compare(found: Localized, wanted: Localized) -> tuple[Tensor, Tensor]:
    cosines = F.cosine_similarity(found.embeddings, wanted.embeddings, dim=1)
    return cosines.clamp(max=1), found.dice - wanted.dice


def least_seconds(
    embedders: Sequence[MaskInversion], pixels: Tensor, masks: np.ndarray, repeats: int
) -> list[float]:
    """CPU seconds of each one's call, the least of several in turns."""
    found = [float("inf")] * len(embedders)
    for _ in range(repeats):
        for number, embedder in enumerate(embedders):
            start = time.process_time()
            embedder(pixels, masks)
            found[number] = min(found[number], time.process_time() - start)
    return found


class Known:
    """Gives results that are known, one after the other, to a task that asks an embedder."""

    def __init__(self, results: Sequence[Localized]) -> None:
        self._results = iter(results)

    def __call__(self, image: object, masks: object) -> Localized:
        """The next one."""
        return next(self._results)


def mini_table(scenes: int, rows: Sequence[int]) -> None:
    """Print the same of the bundled benchmark, with what it is judged by."""
    captioner = RegionCaptioner.from_pretrained("mini", offline=True)
    dataset = open_dataset("mini", None, limit=scenes)
    samples = [dataset[number] for number in range(len(dataset))]
    print(f"\nmini, {len(samples)} scenes, {sum(len(one.masks) for one in samples)} regions\n")
    print(
        "| vectors | rows | mean cosine | least | Dice, mean | captioning micro | CIDEr-D |"
        " referring acc@1 | mask to text acc@1 |"
    )
    print("|---" * 9 + "|")
    exact = MaskInversion(captioner.backbone)
    wanted = [exact(one.image, one.masks) for one in samples]
    encoded = captioner.backbone.encode(
        captioner.backbone.preprocess(samples[0].image, exact.size)[None]
    )
    _mini_row("exact", encoded.grid[0] * encoded.grid[1], captioner, wanted, samples, wanted)
    taken = {len(some): count for count in rows if (some := few_rows(encoded, count)) is not None}
    for some, count in taken.items():
        embedder = fast_embedder(captioner.backbone, count)
        found = [embedder(one.image, one.masks) for one in samples]
        _mini_row("fast", some, captioner, found, samples, wanted)


def _mini_row(
    name: str,
    rows: int,
    captioner: RegionCaptioner,
    found: Sequence[Localized],
    samples: Sequence[Sample],
    wanted: Sequence[Localized],
) -> None:
    seen = [_compare(one, exact) for one, exact in zip(found, wanted, strict=True)]
    cosines, dice = (torch.cat(part) for part in zip(*seen, strict=True))
    tasks = [
        (
            LocalizedCaptioning(captioner, Known(found), captioner.backbone, clipscore=False),
            caption_metrics,
        ),
        (ReferringRetrieval(captioner.backbone, Known(found), "{}"), referring_metrics),
    ]
    said, told = (metrics([task.answer(one) for one in samples]) for task, metrics in tasks)
    figures = [said["micro"], said["cider"], told["acc@1"], told["mask_to_text_acc@1"]]
    cells = [
        name, str(rows), f"{cosines.mean():.4f}", f"{cosines.min():.4f}", f"{dice.mean():+.4f}",
        *(f"{100 * figure:.1f}" for figure in figures),
    ]  # fmt: skip
    print("| " + " | ".join(cells) + " |", flush=True)


def draw(path: Path, points: Sequence[Point], title: str) -> None:
    """Time against distance from the exact vector, as a small PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, marker in (("fast", "o-"), ("first step, too", "s--")):
        some = sorted((one for one in points if one.name == name), key=lambda one: one.rows)
        distances = [1 - float(one.cosines.mean()) for one in some]
        axes.plot([one.seconds for one in some], distances, marker, label=name, markersize=4)
        for one, distance in zip(some, distances, strict=True):
            axes.annotate(str(one.rows), (one.seconds, distance), (4, 4), fontsize=7,
                          textcoords="offset points")  # fmt: skip
    axes.axvline(points[0].seconds, color="grey", linewidth=0.8, linestyle=":", label="exact")
    axes.set(yscale="log", xlabel="CPU seconds, one thread", ylabel="1 - mean cosine to exact")
    axes.set_title(title, fontsize=9)
    axes.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=sorted(VISION), default="ViT-B-16")
    parser.add_argument("--size", type=int, default=448, help="input, pixels [%(default)s]")
    parser.add_argument("--lr", type=float, default=0.1, help="[%(default)s]")
    parser.add_argument("--masks", type=int, default=30, help="that are compared [%(default)s]")
    parser.add_argument("--repeats", type=int, default=2, help="of timed calls [%(default)s]")
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS, help="to try")
    parser.add_argument(
        "--rough_start", type=int, nargs="*", default=(32, 98, 392), help="rows to start with, too"
    )
    parser.add_argument("--mini", type=int, default=0, metavar="N", help="scenes of mini, too")
    parser.add_argument("--plot", type=Path, help="PNG to draw the first table to")
    return parser.parse_args()


def main() -> None:
    """Print the tables, and draw them if asked to."""
    options = parse_options()
    torch.set_num_threads(1)
    points = list(random_curve(options))
    if options.plot is not None:
        title = f"{options.model}, {options.size} px, {TIMED} masks, K = 10; labels: rows"
        draw(options.plot, points, title)
    if options.mini:
        mini_table(options.mini, options.rows)


if __name__ == "__main__":
    main()
