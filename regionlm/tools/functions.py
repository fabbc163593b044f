"""The tools: functions that an agent calls.

Their names, docstrings and annotations are all that an agent is told; the first parameter is not
for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from prefix_models.checks import Described, Range
from regionlm.errors import InputError
from regionlm.tools.answers import (
    Answer,
    CaptionedRegion,
    Captions,
    Match,
    Place,
    Shown,
    ShownRegion,
    TextScore,
    lines,
    png,
)
from regionlm.tools.regions import GivenRegion, PictureName, box_around, read_regions
from regionlm.tools.workspace import Workspace

if TYPE_CHECKING:
    from regionlm.inputs.masks import Region
    from regionlm.inputs.views import ImageView

_LONGEST_TEXT = 1000
_PANELS = 4  # a picture: together about a megapixel

Text = Annotated[
    str,
    Described(
        f"a text of 1 to {_LONGEST_TEXT} characters",
        lambda text: text.strip() and len(text) <= _LONGEST_TEXT,
    ),
]
Texts = Annotated[
    list[Text], Described(f"a list of texts, each of 1 to {_LONGEST_TEXT} characters")
]
Share = Annotated[float, Range(above=0, most=1)]
Cells = Annotated[int, Range(1, 16)]


@dataclass(frozen=True)
class Desk:
    """What tools work with.

    Args:
        captioner: A RegionCaptioner, or anything with those of its methods that are called.
        space: Where pictures come from.
    """

    captioner: Any
    space: Workspace


def caption_regions(
    desk: Desk, image: PictureName, regions: list[GivenRegion], heatmap: bool = False
) -> Answer[Captions]:
    """Say in words what is in each region of an image.

    Each region is described by itself, not the whole image. The answer also says how far to trust
    each caption.

    Args:
        image: Path of an image file, a data: URI, or the image id of an earlier answer.
        regions: The regions to describe.
        heatmap: Also return pictures of where the model looked, of up to four regions each.
    """
    key, view = desk.space.image(image)
    wanted = read_regions(regions, view, desk.space)
    rows, captions = _captioned(desk, view, wanted)
    said = [f"{one.region}: {one.caption}" for one in rows]
    pictures = _heatmaps(view, wanted, captions) if heatmap else []
    return Answer(Captions(key, *view.size, rows), lines(_heading(key, view), said), pictures)


def describe_image(
    desk: Desk,
    image: PictureName,
    regions: list[GivenRegion] | None = None,
    grid: tuple[Cells, Cells] = (3, 3),
) -> Answer[Captions]:
    """Describe an image as a whole and part by part, one line each.

    Without regions, its parts are the cells of a grid. Use it for a first look at an image that you
    know nothing about.

    Args:
        image: Path of an image file, a data: URI, or the image id of an earlier answer.
        regions: The parts to describe, in place of the grid's cells.
        grid: [rows, columns] of the grid.
    """
    key, view = desk.space.image(image)
    if regions:
        parts = read_regions(regions, view, desk.space)
    else:
        most = desk.space.bounds.most_regions(view.size)
        if grid[0] * grid[1] > most:
            raise InputError(
                f"grid: expected at most {most} cells of an image of {view.size[0]} x"
                f" {view.size[1]} pixels, found {grid[0]} x {grid[1]}; take fewer rows or columns"
            )
        parts = _cells(view.size, grid)
    whole = _region("whole image", (0, 0, *view.size), view.size)
    # Without a step, the vector stays the image's own, which captioners were made for.
    image_caption, _ = _captioned(desk, view, [whole], steps=0)
    captions, _ = _captioned(desk, view, parts)
    rows = image_caption + captions
    said = [f"{one.region} ({','.join(map(str, one.box))}): {one.caption}" for one in rows]
    return Answer(Captions(key, *view.size, rows), lines(_heading(key, view), said))


def match_region(
    desk: Desk, image: PictureName, region: GivenRegion, texts: Texts
) -> Answer[Match]:
    """Say which of several texts fits a region of an image best.

    The probabilities are shares among the texts that you give and always add up to 1, so give
    alternatives that exclude each other, such as "a cat" and "a dog".

    Args:
        image: Path of an image file, a data: URI, or the image id of an earlier answer.
        region: The region to compare with the texts.
        texts: Two texts or more to choose from.
    """
    if not texts:
        raise InputError('texts: expected at least one, better two, such as "a cat" and "a dog"')
    desk.space.bounds.check_texts(len(texts))
    key, view = desk.space.image(image)
    wanted = read_regions([region], view, desk.space)
    if len(wanted) > 1:
        names = ", ".join(one.name for one in wanted)
        raise InputError(f"region: expected one, found {len(wanted)} in its mask: {names}")
    (result,) = desk.captioner.match(view, wanted, texts)
    rows = zip(texts, result.probabilities, result.similarities, strict=True)
    ranking = sorted((TextScore(*row) for row in rows), key=lambda one: -one.probability)
    said = [f"{one.text}: {100 * one.probability:.1f}%" for one in ranking]
    return Answer(Match(key, result.region, ranking), lines(_heading(key, view), said))


def find_region(
    desk: Desk, image: PictureName, text: Text, threshold: Share = 0.5
) -> Answer[Place]:
    """Find where in an image something is that you name.

    Gives a box, a mask and a picture of where the model looks. There is always an answer, also for
    what is not there: check it with match_region or caption_regions, which take the mask's id.

    Args:
        image: Path of an image file, a data: URI, or the image id of an earlier answer.
        text: What to look for, such as "a red car".
        threshold: Share of the largest relevance that a pixel must have to belong to what is found;
            lower finds more.
    """
    from regionlm.tools.peaks import part_with_peak
    from regionlm.viz import draw_panel

    key, view = desk.space.image(image)
    (seen,) = desk.captioner.explain(view, texts=[text])
    heatmap = seen.heatmap
    if not heatmap.any():
        raise InputError(
            f"text: the model sees no difference between the places of this image for {text!r};"
            " use other words, or describe_image"
        )
    mask = part_with_peak(heatmap, threshold)
    found = Place(
        image=key,
        text=text,
        box=box_around(mask),
        mask=desk.space.keep_mask(mask),
        peak=list(seen.peak),
        share=seen.share_in(mask),
        coverage=float(mask.mean()),
    )
    said = (
        f"{text}: box {','.join(map(str, found.box))}, {100 * found.coverage:.0f}% of the image,"
        f" with {100 * found.share:.0f}% of the relevance; mask {found.mask}"
    )
    picture = draw_panel(view.image, mask, heatmap, text)
    return Answer(found, lines(_heading(key, view), said), [png(picture)])


def show_region(
    desk: Desk, image: PictureName, regions: list[GivenRegion] | None = None
) -> Answer[Shown]:
    """Draw regions over an image, numbered, to see whether they are where you think.

    Args:
        image: Path of an image file, a data: URI, or the image id of an earlier answer.
        regions: The regions to draw; without any, the image alone is shown.
    """
    from regionlm.tools.overlay import draw_regions

    key, view = desk.space.image(image)
    wanted = read_regions(regions, view, desk.space) if regions else []
    shown = [
        ShownRegion(number, one.name, box_around(one.mask), float(one.mask.mean()))
        for number, one in enumerate(wanted, 1)
    ]
    said = [f"{one.number}: {one.region} ({','.join(map(str, one.box))})" for one in shown]
    picture = draw_regions(view.image, [one.mask for one in wanted])
    return Answer(Shown(key, *view.size, shown), lines(_heading(key, view), said), [png(picture)])


def _captioned(
    desk: Desk, view: ImageView, regions: list[Region], **options: Any
) -> tuple[list[CaptionedRegion], list[Any]]:
    """What the captions of regions say, and the captions themselves."""
    captions = desk.captioner.caption(view, regions, **options)
    rows = [
        CaptionedRegion(
            region=one.name,
            box=box_around(one.mask),
            caption=" ".join(caption.text.split()),
            logprob=caption.logprob,
            dice=caption.dice,
            iou=caption.iou,
            cosine_to_image=caption.cosine_to_image,
        )
        for one, caption in zip(regions, captions, strict=True)
    ]
    return rows, captions


def _heading(key: str, view: ImageView) -> str:
    return f"{key}: {view.size[0]} x {view.size[1]} pixels"


def _heatmaps(view: ImageView, regions: list[Region], captions: list[Any]) -> list[bytes]:
    """Pictures that a model can be shown, a panel for each region."""
    from regionlm.relevance.explanation import undrawn
    from regionlm.viz import draw_heatmaps

    pictures = []
    for start in range(0, len(regions), _PANELS):
        drawn = list(zip(regions, captions, strict=True))[start : start + _PANELS]
        maps = [undrawn(one).heatmap() for _, one in drawn]  # which end with their picture
        texts = [f"{one.name}: {said.text}" for one, said in drawn]
        masks = [one.mask for one, _ in drawn]
        pictures.append(png(draw_heatmaps(view.image, masks, maps, texts, columns=2)))
    return pictures


def _cells(size: tuple[int, int], grid: tuple[int, int]) -> list[Region]:
    """The cells of a grid of [rows, columns] over an image of `size` (W, H), in reading order."""
    rows, columns = min(grid[0], size[1]), min(grid[1], size[0])
    x = [size[0] * i // columns for i in range(columns + 1)]
    y = [size[1] * i // rows for i in range(rows + 1)]
    return [
        _region(f"row {r + 1} column {c + 1}", (x[c], y[r], x[c + 1], y[r + 1]), size)
        for r in range(rows)
        for c in range(columns)
    ]


def _region(name: str, box: tuple[int, int, int, int], size: tuple[int, int]) -> Region:
    from regionlm.inputs.masks import Region

    mask = np.zeros(size[::-1], bool)
    mask[box[1] : box[3], box[0] : box[2]] = True
    return Region(name, mask)
