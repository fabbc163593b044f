"""The `regionlm` command: read, check, call the Python API, print.

torch is imported only after the picture, the regions and the output paths have been checked, so
`--help` and most mistakes are answered at once.
"""

from __future__ import annotations

import json as json_format
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from regionlm.cli_options import (
    CaptionOutput,
    Decoding,
    EmbedOutput,
    Inversion,
    MatchOutput,
    Model,
    Query,
)
from regionlm.cli_parser import Command, UsageError, parse
from regionlm.errors import InputError, ModelError

if TYPE_CHECKING:
    from PIL.Image import Image

    from regionlm.captioner import RegionCaptioner
    from regionlm.masks import Region


def caption(
    query: Query, model: Model, inversion: Inversion, decoding: Decoding, output: CaptionOutput
) -> None:
    """Say in words what is in each region of an image.

    Prints the caption; with several regions one line each, "region: caption".
    """
    from regionlm.outputs import PICTURE_SUFFIXES, check_writable

    if output.heatmap is not None:
        check_writable(output.heatmap, PICTURE_SUFFIXES)
    image, regions = _read(query)
    options = asdict(decoding)
    captioner = _load(model, options.pop("prefix"))
    results = captioner.caption(image, regions, **options, **asdict(inversion))
    if output.heatmap is not None:
        from regionlm.viz import save_heatmap

        masks, maps = [region.mask for region in regions], [r.heatmap() for r in results]
        save_heatmap(output.heatmap, image, masks, maps, [r.text for r in results])
    if output.json:
        figures = ("logprob", "dice", "iou", "cosine_to_image")
        rows = [
            {"region": r.region, "caption": r.text, **{f: float(getattr(r, f)) for f in figures}}
            for r in results
        ]
        _print_json({"image": query.image, "model": model.model, "regions": rows})
    else:
        _print_lines([r.region for r in results], [r.text for r in results])


def match(query: Query, model: Model, inversion: Inversion, output: MatchOutput) -> None:
    """Tell which of some texts fits each region of an image.

    Prints the texts with their probabilities, likeliest first; with several regions one line each,
    "region: text 80.0%, text 20.0%".
    """
    if not output.text or not all(text.strip() for text in output.text):
        raise InputError('no text given, or an empty one: add --text "a dog" --text "a cat"')
    image, regions = _read(query)
    results = _load(model).match(image, regions, output.text, **asdict(inversion))
    if output.json:
        rows = [
            {
                "region": r.region,
                "probabilities": [float(p) for p in r.probabilities],
                "similarities": [float(s) for s in r.similarities],
            }
            for r in results
        ]
        answer = {"image": query.image, "model": model.model, "texts": output.text}
        _print_json({**answer, "regions": rows})
        return
    lines = []
    for r in results:
        ranked = sorted(zip(r.probabilities, output.text, strict=True), key=lambda pair: -pair[0])
        lines.append(", ".join(f"{text} {100 * float(p):.1f}%" for p, text in ranked))
    _print_lines([r.region for r in results], lines)


def embed(query: Query, model: Model, inversion: Inversion, output: EmbedOutput) -> None:
    """Write each region's embedding, a vector of the model's image-text space, to a file."""
    from regionlm.outputs import check_writable, save_tensors

    check_writable(output.output)
    image, regions = _read(query)
    found = _load(model).embed(image, regions, **asdict(inversion))
    names = ("embeddings", "image_embedding", "dice", "iou", "cosine_to_image")
    metadata = {
        "image": query.image,
        "model": model.model,
        "regions": json_format.dumps([region.name for region in regions]),
    }
    tensors = {name: getattr(found, name).float() for name in names}
    save_tensors(output.output, tensors, metadata)
    count, dim = found.embeddings.shape
    print(f"{output.output}: embeddings [{count}, {dim}]")


COMMANDS: dict[str, Command] = {"caption": caption, "match": match, "embed": embed}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    0: done. 2: the user's input or the model can't be used, said in one line on stderr. 130:
    interrupted. 141: the reader of the output went away. Anything else is a bug and keeps its
    traceback. `--help` and `--version` raise SystemExit(0).
    """
    try:
        with warnings.catch_warnings():
            _quieten_libraries()
            command, parts = parse(
                COMMANDS,
                sys.argv[1:] if argv is None else argv,
                description="Say what is in a region of an image, in words or as a vector.",
                version=_version(),
            )
            command(*parts)
            sys.stdout.flush()
        return 0
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Python flushes stdout once more at exit; let that go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except UsageError as error:
        return _complain(error)
    except ValueError as error:
        if not _is_users(error):
            raise
        return _complain(error)


def _read(query: Query) -> tuple[Image, list[Region]]:
    from regionlm.images import open_image
    from regionlm.masks import box_region, read_regions

    if not query.mask and not query.box:
        raise InputError("no region given: add --mask M.png or --box X0,Y0,X1,Y1")
    image = open_image(query.image)
    regions = [region for path in query.mask for region in read_regions(path, image.size)]
    return image, regions + [box_region(box, image.size) for box in query.box]


def _load(model: Model, prefix: str | None = None) -> RegionCaptioner:
    from regionlm.captioner import RegionCaptioner

    return RegionCaptioner.from_pretrained(
        model.model, prefix=prefix, device=model.device, offline=model.offline
    )


def _is_users(error: ValueError) -> bool:
    if isinstance(error, InputError | ModelError):
        return True
    from prefix_models.errors import PrefixModelError  # late: the package may import torch

    return isinstance(error, PrefixModelError)


def _complain(error: Exception) -> int:
    print("regionlm: error:", " ".join(str(error).split()), file=sys.stderr)
    return 2


def _quieten_libraries() -> None:
    """Keep developers' notices off a user's terminal; -W and the variables bring them back."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def _version() -> str:
    try:
        return version("regionlm")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "unknown"


def _print_lines(names: Sequence[str], lines: Sequence[str]) -> None:
    for name, line in zip(names, lines, strict=True):
        line = " ".join(line.split())  # one line a region, whatever a language model writes
        print(line if len(lines) == 1 else f"{name}: {line}")


def _print_json(answer: dict[str, Any]) -> None:
    print(json_format.dumps(answer, ensure_ascii=False))
