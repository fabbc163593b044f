"""Two questions to the bundled model that its results raise: what does a red circle do, and what
does the norm of a LET do? Figures of eval/README.md.

`python benchmarks/mini_questions.py`, about two minutes on one CPU core.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from eval.tasks import LocalizedCaptioning, caption_metrics
from eval.tasks.region_task import cosines
from regionlm.captioner import RegionCaptioner
from regionlm.datasets import open_dataset
from regionlm.datasets.sample import Sample
from regionlm.embedders import Embedder, make_embedder
from training.mini.naming import noun

THICKNESSES = (0.004, 0.01, 0.02, 0.04)  # of the short side; 0.01 is the default


def circles(samples: Sequence[Sample]) -> Iterable[str]:
    """What pictures with a circle around one thing are near to, against the picture as it is."""
    captioner = RegionCaptioner.from_pretrained("mini", offline=True)
    yield (
        "| picture | nearest text is the circled thing's | its cosine | the others' | the plain"
        " picture's | caption names the circled thing | another | none of the scene |"
    )
    yield "|---" * 8 + "|"
    plain = make_embedder("cls", captioner.backbone)
    yield _row("as it is", captioner, samples, plain, plain)
    for thickness in THICKNESSES:
        drawn = make_embedder("red_circle", captioner.backbone, thickness=thickness)
        yield _row(f"line of {100 * thickness:g} % of the side", captioner, samples, drawn, plain)


def _row(
    name: str,
    captioner: RegionCaptioner,
    samples: Sequence[Sample],
    embedder: Embedder,
    plain: Embedder,
) -> str:
    found = []
    for sample in samples:
        shown = embedder(sample.image, sample.masks)
        kept = cosines(shown.embeddings, plain(sample.image, sample.masks).embeddings)[:, 0]
        scores = cosines(shown.embeddings, captioner.backbone.embed_texts(list(sample.texts)))
        captions = captioner.prefix_model.generate(captioner.prefix_embeddings(shown))
        things = [noun(text) for text in sample.texts]
        for i, said in enumerate(noun(caption.text) for caption in captions):
            others = torch.cat([scores[i, :i], scores[i, i + 1 :]])
            named = [said == things[i], said != things[i] and said in things, said not in things]
            found.append([scores[i].argmax() == i, scores[i, i], others.mean(), kept[i], *named])
    nearest, *near, a, b, c = torch.tensor(found, dtype=torch.float64).mean(0).tolist()
    cells = [_percent(nearest), *(f"{cosine:.3f}" for cosine in near), *map(_percent, (a, b, c))]
    return f"| {name} | " + " | ".join(cells) + " |"


def norms(samples: Sequence[Sample]) -> Iterable[str]:
    """Captions from LETs as they are found, against LETs of the image embedding's norm."""
    yield "| prefix | LETs | norm, median | image's | micro | CIDEr | BLEU@1 |"
    yield "|---" * 7 + "|"
    for prefix in ("zero-shot", "adapted"):
        captioner = RegionCaptioner.from_pretrained("mini", prefix=prefix, offline=True)
        embedder = make_embedder("maskinversion", captioner.backbone)
        task = LocalizedCaptioning(captioner, embedder, captioner.backbone, clipscore=False)
        every = [embedder(sample.image, sample.masks) for sample in samples]
        image = torch.stack([found.image_embedding.norm() for found in every]).median()
        for name, rescale in (("as found", False), ("rescaled", True)):
            captioner.rescale = rescale
            length = torch.cat([captioner.prefix_embeddings(one).norm(dim=1) for one in every])
            figures = caption_metrics([task.answer(sample) for sample in samples])
            cells = [_percent(figures[key]) for key in ("micro", "cider", "bleu@1")]
            yield (
                f"| {prefix} | {name} | {length.median():.2f} | {image:.2f} | "
                + " | ".join(cells)
                + " |"
            )


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def main(limit: int = 40) -> None:
    """Print both tables; shares in percent, CIDEr times 100.

    Args:
        limit: scenes of the bundled benchmark.
    """
    dataset = open_dataset("mini", None, limit=limit)
    samples = [dataset[i] for i in range(len(dataset))]
    regions = sum(len(sample.masks) for sample in samples)
    print(f"{len(samples)} scenes, {regions} regions\n")
    for part in (circles, norms):
        print(*part(samples), "", sep="\n")


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main, as_positional=False)
