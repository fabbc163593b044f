"""Two questions to the bundled model that its results raise: what does a red circle do, and what
does the norm of a LET do? Figures of eval/README.md.

`python benchmarks/mini_questions.py`, about two minutes on one CPU core.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from eval.datasets import open_dataset
from eval.datasets.sample import Sample
from eval.mini_regions import noun
from eval.tasks import LocalizedCaptioning, caption_metrics
from eval.tasks.task import cosines
from regionlm.captioner import RegionCaptioner
from regionlm.embedders import make_embedder

PREFIXES = ("zero-shot", "adapted")
THICKNESSES = (0.004, 0.01, 0.02, 0.04)


def circles(captioner: RegionCaptioner, samples: Sequence[Sample]) -> Iterable[str]:
    """What a picture with a circle around one thing is near to, against the picture as it is."""
    plain = make_embedder("cls", captioner.backbone)
    yield "| picture | own text nearest | cosine: own text | other texts | plain picture |" + (
        " captions: own thing | another of the scene | none of it | \"red\" |"
    )
    yield "|---" * 9 + "|"
    yield _row("as it is", captioner, samples, plain, plain)
    for thickness in THICKNESSES:
        drawn = make_embedder("red_circle", captioner.backbone, thickness=thickness)
        yield _row(f"circle, {thickness} of the side", captioner, samples, drawn, plain)


def _row(name, captioner, samples, embedder, plain) -> str:  # noqa: ANN001
    found: list[list[float]] = []
    for sample in samples:
        shown = embedder(sample.image, sample.masks)
        before = plain(sample.image, sample.masks).embeddings
        scores = cosines(shown.embeddings, captioner.backbone.embed_texts(list(sample.texts)))
        own = torch.eye(len(scores), dtype=torch.bool)
        captions = captioner.prefix_model.generate(captioner.prefix_embeddings(shown))
        names = [noun(text) for text in sample.texts]
        for i, caption in enumerate(captions):
            said = noun(caption.text)
            found.append(
                [
                    float(scores[i].argmax() == i),
                    scores[i][own[i]].mean().item(),
                    scores[i][~own[i]].mean().item(),
                    cosines(shown.embeddings, before)[i, i].item(),
                    float(said == names[i]),
                    float(said != names[i] and said in names),
                    float(said not in names),
                    float("red" in caption.text.split()),
                ]
            )
    share, own_text, others, same, *told = torch.tensor(found).mean(0).tolist()
    cells = [f"{100 * share:.1f} %", f"{own_text:.3f}", f"{others:.3f}", f"{same:.3f}"]
    return f"| {name} | " + " | ".join([*cells, *(f"{100 * x:.1f} %" for x in told)]) + " |"


if __name__ == "__main__":
    pass
