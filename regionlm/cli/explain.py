"""`regionlm explain`: where an image is relevant to texts and to regions."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from regionlm.cli.options import ExplainOutput, ExplainQuery, Inversion, ModelRun
from regionlm.cli.printing import print_json
from regionlm.cli.questions import (
    check_fit,
    has_regions,
    load_encoder,
    print_lines,
    read_question,
)
from regionlm.cli.together import refuse
from regionlm.embedders.options import ROLLOUT, EmbedderOptions, check_embedder, finding_options
from regionlm.errors import InputError
from regionlm.inputs.texts import refuse_empty

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from regionlm.inputs.masks import Region
    from regionlm.inputs.views import ImageView
    from regionlm.relevance.explanation import Explanation

_COLUMNS = 6  # of a strip: the first map, the last, and four between them


def explain(
    query: ExplainQuery, model: ModelRun, inversion: Inversion, output: ExplainOutput
) -> None:
    """Show where an image is relevant to texts, or to the embeddings of regions.

    Prints the most relevant pixel of each: "peak X,Y". With texts and regions together, JSON also
    says whether a text's peak is inside a region, and what share of its relevance is.
    """
    from regionlm.files import PICTURE_SUFFIXES, check_writable

    options = {name: value for name, value in asdict(inversion).items() if value is not None}
    is_rollout = inversion.relevance == ROLLOUT
    if is_rollout:
        _check_rollout(query, model, options, output)
    else:
        check_embedder("maskinversion", options)
        _check(query, options, output)
    if output.output is not None:
        check_writable(output.output, PICTURE_SUFFIXES, inputs=[query.image, *query.mask])
    image, regions = read_question(query, model, needs_region=False)
    if is_rollout:
        check_fit(model, "cls", {name: options[name] for name in options if name != "relevance"})
    else:
        check_fit(model, "maskinversion", options)
    encoder = load_encoder(model)
    from regionlm.embedders.maskinversion import MaskInversion
    from regionlm.inputs.views import ImageView

    view = ImageView(image)
    question = {"image": query.image, "model": model.model}
    if is_rollout:
        found = encoder.explain(view, **options)
    else:
        embedder = MaskInversion(encoder.backbone, **options)
        found = encoder.explain(view, texts=query.text, masks=regions or None, embedder=embedder)
        question.update(embedder.record)
    if output.output is not None and output.over_steps:
        steps = embedder.steps
        columns = {
            count: encoder.explain(view, regions, **{**options, "steps": count})
            for count in _shown_steps(steps)[:-1]
        }
        _draw_strips(output.output, view, regions, {**columns, steps: found})
    elif output.output is not None:
        masks = [None] * (len(found) - len(regions)) + [region.mask for region in regions]
        _draw(output.output, view, masks, found)
    if output.json:
        rows = [_row(one, regions) for one in found]
        print_json({**question, "maps": rows})
    else:
        peaks = [f"peak {x},{y}" for x, y in (one.peak for one in found)]
        print_lines(query, [one.name for one in found], peaks)


def _check(query: ExplainQuery, options: Mapping[str, Any], output: ExplainOutput) -> None:
    if not query.text and not has_regions(query):
        raise InputError(
            'nothing to look for: add --text "a dog", --mask M.png, --box X0,Y0,X1,Y1 or'
            " --points X,Y"
        )
    refuse_empty(query.text, "text")
    if output.over_steps and query.text:
        raise InputError(
            "--over_steps shows how regions are found, and a text is not; leave one of them out"
        )
    if output.over_steps and output.output is None:
        raise InputError("--over_steps goes with --output FILE; add --output FILE, or leave it out")
    if not has_regions(query):
        refuse(finding_options(options), "is for regions; add --mask, --box or --points")


def _check_rollout(
    query: ExplainQuery, model: ModelRun, options: Mapping[str, Any], output: ExplainOutput
) -> None:
    asked = [name for name in ("text", "mask", "box", "points") if getattr(query, name)]
    refuse(asked, "has no effect on --relevance rollout, the same for all; take another method")
    own = (*(one.name for one in fields(EmbedderOptions)), "relevance")
    others = [name for name in options if name not in own] + ["over_steps"] * output.over_steps
    others += model.trunk.chosen  # it takes each layer's attention, which no trunk has
    refuse(others, "has no effect on --relevance rollout; take another method")
    check_embedder("cls", {name: value for name, value in options.items() if name != "relevance"})


def _row(one: Explanation, regions: Sequence[Region]) -> dict[str, Any]:
    """What JSON says of a map; of a text's also how it points at the regions given."""
    row = one.to_dict()
    if one.dice is None and regions:
        row["regions"] = [
            {
                "region": region.name,
                "peak_inside": one.points_into(region.mask),
                "share_inside": one.share_in(region.mask),
            }
            for region in regions
        ]
    return row


def _draw(
    path: str, view: ImageView, masks: Sequence[np.ndarray | None], found: Sequence[Explanation]
) -> None:
    from regionlm.viz import save_heatmap

    maps = [one.heatmap for one in found]
    save_heatmap(path, view.image, masks, maps, [one.name for one in found])


def _shown_steps(last: int) -> list[int]:
    """Numbers of steps from 0 to ``last``, evenly spaced."""
    return sorted({round(last * column / (_COLUMNS - 1)) for column in range(_COLUMNS)})


def _draw_strips(
    path: str,
    view: ImageView,
    regions: Sequence[Region],
    columns: Mapping[int, Sequence[Explanation]],
) -> None:
    """A row for each region: its maps by the number of steps."""
    from regionlm.viz import save_heatmap

    cells = [
        (region.mask, found[row].heatmap, f"{steps} steps, Dice {found[row].dice:.2f}")
        for row, region in enumerate(regions)
        for steps, found in columns.items()
    ]
    masks, maps, captions = zip(*cells, strict=True)
    save_heatmap(path, view.image, masks, maps, captions, columns=len(columns))
