"""The `regionlm` command: read, check, call the Python API, print.

torch is imported only after the picture, the regions and the output paths have been checked, so
`--help` and most mistakes are answered at once.
"""

from __future__ import annotations

import errno
import json as json_format
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from prefix_models.errors import DoubtWarning, UserError
from regionlm.cli.bulk import caption_many
from regionlm.cli.commands import added_commands, summaries
from regionlm.cli.options import (
    Bulk,
    CaptionOutput,
    CaptionQuery,
    Decoding,
    Embedding,
    EmbedOutput,
    Examination,
    MatchOutput,
    Model,
    Query,
)
from regionlm.cli.parser import Command, parse
from regionlm.cli.printing import print_json, whole_output
from regionlm.cli.together import check_decoding, check_embedding, given, own_options, refuse
from regionlm.distributed.rank import is_first_process
from regionlm.errors import InputError
from regionlm.threads import sleep_while_waiting

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image

    from regionlm.embedders.embedder import Embedder
    from regionlm.encoder import RegionEncoder
    from regionlm.inputs.masks import Region
    from regionlm.llava_captioner import LlavaCaptioner


def caption(
    query: CaptionQuery,
    model: Model,
    embedding: Embedding,
    decoding: Decoding,
    output: CaptionOutput,
    bulk: Bulk,
) -> None:
    """Say in words what is in each region of an image, or of many.

    Prints the caption; with several regions, or a label's, a line each, "region: caption". With
    --manifest, writes a file, and says at the end how many regions a second it took.
    """
    check_embedding(embedding)
    check_decoding(decoding)
    if bulk.manifest is None:
        refuse(given(bulk), "goes with --manifest; add --manifest FILE")
        _caption_image(query, model, embedding, decoding, output)
        return
    if query.image is not None:
        raise InputError(
            f"--manifest: found the image {query.image} as well; leave one of them out"
        )
    refuse(
        [*given(query), *given(output)],
        "goes with an image, not with --manifest; give one of them",
    )
    if bulk.output is None:
        raise InputError("--manifest: no file for the captions given; add --output FILE")
    caption_many(bulk.manifest, bulk.output, bulk, model, embedding, decoding)


def _caption_image(
    query: CaptionQuery,
    model: Model,
    embedding: Embedding,
    decoding: Decoding,
    output: CaptionOutput,
) -> None:
    from regionlm.auto import load_captioner
    from regionlm.files import PICTURE_SUFFIXES, check_writable

    if output.heatmap is not None:
        if embedding.embedder != "maskinversion":
            raise InputError(
                f"--heatmap: the embedder {embedding.embedder} has no relevance map; leave it out,"
                " or use maskinversion"
            )
        check_writable(output.heatmap, PICTURE_SUFFIXES, inputs=_files(query, embedding))
    image, regions = _read(query)
    options = asdict(decoding)
    captioner = load_captioner(
        model.model,
        prefix=options.pop("prefix"),
        prompt=options.pop("prompt"),
        device=model.device,
        offline=model.offline,
    )
    from regionlm.captioner import RegionCaptioner

    if output.heatmap is not None and not isinstance(captioner, RegionCaptioner):
        raise InputError(
            f"--heatmap: {model.model} is a LLaVA, whose maps lie on its own crop of the image;"
            " leave it out"
        )
    results = captioner.caption(image, regions, embedder=_embedder(embedding, captioner), **options)
    if output.heatmap is not None:
        from regionlm.viz import save_heatmap

        masks, maps = [region.mask for region in regions], [r.heatmap() for r in results]
        save_heatmap(output.heatmap, image, masks, maps, [r.text for r in results])
    if output.json:
        rows = [result.to_dict() for result in results]
        print_json({**_question(query, model, embedding), "regions": rows})
    else:
        _print_lines(query, [r.region for r in results], [r.text for r in results])


def match(query: Query, model: Model, embedding: Embedding, output: MatchOutput) -> None:
    """Tell which of some texts fits each region of an image.

    Prints the texts with their probabilities, likeliest first; with several regions, or a label's,
    a line each, "region: text 80.0%, text 20.0%".
    """
    if not output.text or not all(text.strip() for text in output.text):
        raise InputError('no text given, or an empty one: add --text "a dog" --text "a cat"')
    check_embedding(embedding)
    image, regions = _read(query)
    encoder = _load(model)
    embedder = _embedder(embedding, encoder)
    results = encoder.match(image, regions, output.text, embedder=embedder)
    if output.json:
        rows = [
            {
                "region": r.region,
                "probabilities": [float(p) for p in r.probabilities],
                "similarities": [float(s) for s in r.similarities],
            }
            for r in results
        ]
        answer = _question(query, model, embedding)
        print_json({**answer, "texts": output.text, "regions": rows})
        return
    lines = []
    for r in results:
        ranked = sorted(zip(r.probabilities, output.text, strict=True), key=lambda pair: -pair[0])
        lines.append(", ".join(f"{text} {100 * float(p):.1f}%" for p, text in ranked))
    _print_lines(query, [r.region for r in results], lines)


def embed(query: Query, model: Model, embedding: Embedding, output: EmbedOutput) -> None:
    """Write each region's embedding, a vector of the model's image-text space, to a file."""
    from regionlm.files import check_writable, save_tensors

    check_embedding(embedding)
    check_writable(output.output, (".safetensors",), inputs=_files(query, embedding))
    image, regions = _read(query)
    encoder = _load(model)
    found = encoder.embed(image, regions, embedder=_embedder(embedding, encoder))
    names = ["embeddings", "image_embedding", "cosine_to_image"]
    if embedding.embedder == "maskinversion":
        names += ["dice", "iou"]
    names_of_regions = json_format.dumps([region.name for region in regions])
    metadata = {**_question(query, model, embedding), "regions": names_of_regions}
    tensors = {name: getattr(found, name).float() for name in names}
    save_tensors(output.output, tensors, metadata)
    count, dim = found.embeddings.shape
    print(f"{output.output}: embeddings [{count}, {dim}]")


def doctor(asked: Examination) -> int:
    """Tell what is installed and whether it works: what to put in a report of a bug.

    Looks at versions, extras, machine, folders and the hub, and tries a model out on an image that
    ships with it. Ends with 1 if anything is wrong; notes are no faults.
    """
    from regionlm.doctor import examine

    report = examine(asked.model, device=asked.device, offline=asked.offline)
    if asked.json:
        print_json(report.to_dict())
    else:
        print(report.text())
    return 1 if report.faults else 0


COMMANDS: dict[str, Command] = {
    "caption": caption,
    "match": match,
    "embed": embed,
    "doctor": doctor,
}
"""Commands of this package; `regionlm.cli.commands` finds those that others add."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    0: done. 1: `doctor` found something wrong. 2: the user's input or the model can't be used, said
    in one line on stderr. 130: interrupted. 141: the reader of the output went away. Anything else
    is a bug and keeps its traceback. `--help` and `--version` raise SystemExit(0).
    """
    sleep_while_waiting()
    try:
        with _quiet_libraries(), whole_output():
            code = _run(sys.argv[1:] if argv is None else argv)
            sys.stdout.flush()
        return code
    except KeyboardInterrupt as interrupt:
        if not is_first_process():
            return 0
        if interrupt.args:  # how to resume
            print("regionlm:", interrupt, file=sys.stderr)
        return 130
    except BrokenPipeError:
        _discard_stdout()
        return 141
    except OSError as error:
        if error.errno != errno.ENOSPC or error.filename is not None:
            raise
        _discard_stdout()
        return _complain(InputError(f"standard output cannot be written: {error.strerror}"))
    except UserError as error:
        return _complain(error)


def _discard_stdout() -> None:
    """Python flushes stdout once more at exit; let that go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(argv: Sequence[str]) -> int:
    added = {} if argv and argv[0] in COMMANDS else added_commands(but=COMMANDS)
    if argv and argv[0] in added:
        return added[argv[0]].load()(argv[1:]) or 0
    command, parts = parse(
        COMMANDS,
        argv,
        description="Say what is in a region of an image, in words or as a vector.",
        version=_version(),
        others=summaries(added),
    )
    return command(*parts) or 0


def _read(query: CaptionQuery) -> tuple[Image, list[Region]]:
    from regionlm.inputs.images import open_image
    from regionlm.inputs.masks import box_region, read_regions

    if query.image is None:
        raise InputError("no image given: add its file, or --manifest FILE for many images")
    if not query.mask and not query.box:
        raise InputError("no region given: add --mask M.png or --box X0,Y0,X1,Y1")
    image = open_image(query.image)
    regions = [region for path in query.mask for region in read_regions(path, image.size)]
    return image, regions + [box_region(box, image.size) for box in query.box]


def _files(query: CaptionQuery, embedding: Embedding) -> list[str | Path | None]:
    return [query.image, *query.mask, embedding.checkpoint]


def _load(model: Model) -> RegionEncoder:
    from regionlm.encoder import RegionEncoder

    return RegionEncoder.from_pretrained(model.model, device=model.device, offline=model.offline)


def _embedder(embedding: Embedding, model: RegionEncoder | LlavaCaptioner) -> Embedder:
    from regionlm.embedders.embedder_registry import make_embedder

    return make_embedder(embedding.embedder, model.backbone, **own_options(embedding))


def _question(query: CaptionQuery, model: Model, embedding: Embedding) -> dict[str, str]:
    asked = {"image": str(query.image), "model": model.model}
    default = Embedding().embedder
    return asked if embedding.embedder == default else {**asked, "embedder": embedding.embedder}


def _complain(error: UserError) -> int:
    if not is_first_process():
        return 0  # anything else, and Lightning kills the first one before it has ended
    print("regionlm: error:", " ".join(str(error).split()), file=sys.stderr)
    return 2


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Keep developers' notices off a user's terminal; -W brings them back."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if sys.warnoptions:
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("default", DoubtWarning)
        warnings.showwarning = _show_warning
        logging.disable(logging.INFO)  # whatever level a library gives its loggers when imported
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """One line, without the place in our code that pointed it out."""
    if is_first_process():
        print("regionlm: warning:", " ".join(str(message).split()), file=sys.stderr)


def _version() -> str:
    try:
        return version("regionlm")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "unknown"


def _print_lines(query: CaptionQuery, names: Sequence[str], lines: Sequence[str]) -> None:
    is_label = bool(query.mask) and names[0] not in query.mask
    for name, line in zip(names, lines, strict=True):
        line = " ".join(line.split())  # one line a region, whatever a language model writes
        print(f"{name}: {line}" if len(lines) > 1 or is_label else line)
