"""The commands: read, check, call the Python API, print.

torch is imported only after the image, the regions and the output paths have been checked, so
`--help` appears, and most mistakes are reported, at once.
"""

from __future__ import annotations

import json as json_format
from dataclasses import asdict

from regionlm.cli.bulk import caption_many
from regionlm.cli.options import (
    Bulk,
    CaptionOutput,
    CaptionQuery,
    Decoding,
    Embedding,
    EmbedOutput,
    Examination,
    MatchOutput,
    ModelRun,
    Query,
)
from regionlm.cli.printing import print_json
from regionlm.cli.questions import (
    check_captioner_fit,
    check_fit,
    chosen_embedder,
    input_files,
    load_encoder,
    print_lines,
    question_asked,
    read_question,
)
from regionlm.cli.together import check_decoding, check_embedding, given, own_options, refuse
from regionlm.errors import InputError
from regionlm.inputs.texts import refuse_empty


def caption(
    query: CaptionQuery,
    model: ModelRun,
    embedding: Embedding,
    decoding: Decoding,
    output: CaptionOutput,
    bulk: Bulk,
) -> None:
    """Say in words what is in each region of an image, or of many.

    Prints the caption; for several regions, or those of a label map, a line for each, "region:
    caption". With --manifest, writes a file, and says at the end how many regions per second.
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
        "goes with an image, not with --manifest; give an image instead",
    )
    if bulk.output is None:
        raise InputError("--manifest: no file for the captions given; add --output FILE")
    caption_many(bulk.manifest, bulk.output, bulk, model, embedding, decoding)


def _caption_image(
    query: CaptionQuery,
    model: ModelRun,
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
        check_writable(output.heatmap, PICTURE_SUFFIXES, inputs=input_files(query, embedding))
    image, regions = read_question(query, model)
    options = asdict(decoding)
    check_captioner_fit(model, embedding)
    captioner = load_captioner(
        model.model,
        prefix=options.pop("prefix"),
        prompt=options.pop("prompt"),
        trunk=model.trunk,
        device=model.device,
        offline=model.offline,
    )
    embedder = chosen_embedder(embedding, captioner)
    results = captioner.caption(image, regions, embedder=embedder, **options)
    if output.heatmap is not None:
        from regionlm.viz import save_heatmap

        masks, maps = [region.mask for region in regions], [r.heatmap() for r in results]
        save_heatmap(output.heatmap, image, masks, maps, [r.text for r in results])
    if output.json:
        rows = [result.to_dict() for result in results]
        print_json({**question_asked(query, model, embedding, embedder), "regions": rows})
    else:
        print_lines(query, [r.region for r in results], [r.text for r in results])


def match(query: Query, model: ModelRun, embedding: Embedding, output: MatchOutput) -> None:
    """Say which of several texts fits each region of an image.

    Prints the texts with their probabilities, most likely first; for several regions, or those of a
    label map, a line for each, "region: text 80.0%, text 20.0%".
    """
    if not output.text:
        raise InputError('no text given: add --text "a dog" --text "a cat"')
    refuse_empty(output.text, "text")
    check_embedding(embedding)
    image, regions = read_question(query, model)
    check_fit(model, embedding.embedder, own_options(embedding))
    encoder = load_encoder(model)
    embedder = chosen_embedder(embedding, encoder)
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
        answer = question_asked(query, model, embedding, embedder)
        print_json({**answer, "texts": output.text, "regions": rows})
        return
    lines = []
    for r in results:
        ranked = sorted(zip(r.probabilities, output.text, strict=True), key=lambda pair: -pair[0])
        lines.append(", ".join(f"{text} {100 * float(p):.1f}%" for p, text in ranked))
    print_lines(query, [r.region for r in results], lines)


def embed(query: Query, model: ModelRun, embedding: Embedding, output: EmbedOutput) -> None:
    """Write each region's embedding, a vector of the model's image-text space, to a file."""
    from regionlm.files import check_writable, save_tensors

    check_embedding(embedding)
    check_writable(output.output, (".safetensors",), inputs=input_files(query, embedding))
    image, regions = read_question(query, model)
    check_fit(model, embedding.embedder, own_options(embedding))
    encoder = load_encoder(model)
    embedder = chosen_embedder(embedding, encoder)
    found = encoder.embed(image, regions, embedder=embedder)
    names = ["embeddings", "image_embedding", "cosine_to_image"]
    if embedding.embedder == "maskinversion":
        names += ["dice", "iou"]
    names_of_regions = json_format.dumps([region.name for region in regions])
    asked = question_asked(query, model, embedding, embedder)
    tensors = {name: getattr(found, name).float() for name in names}
    save_tensors(output.output, tensors, {**asked, "regions": names_of_regions})
    count, dim = found.embeddings.shape
    print(f"{output.output}: embeddings [{count}, {dim}]")


def doctor(asked: Examination) -> int:
    """Say what is installed and whether it works; put this into bug reports.

    Looks at versions, extras, machine, folders and the hub, and tries out a model on an image that
    ships with regionlm. The exit code is 1 if anything is wrong; notes do not count as faults.
    """
    from regionlm.doctor import examine

    report = examine(asked.model, device=asked.device, offline=asked.offline)
    if asked.json:
        print_json(report.to_dict())
    else:
        print(report.text())
    return 1 if report.faults else 0
