"""Everything an evaluation run can be told: keys of the YAML, options of `regionlm eval`.

Nothing that loads torch may be imported here: jsonargparse resolves these annotations for `--help`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from prefix_models.checks import Checked, Count, Words
from regionlm.cli.flags import Value
from regionlm.datasets.data_errors import DataError

TaskName = Literal["captioning", "referring", "classes"]
MaskQuality = Literal["exact", "erosion", "dilation", "box", "box_sam"]
Side = Annotated[
    int, Words("3, 5, 7 or another odd number", fits=lambda side: side >= 3 and side % 2)
]


@dataclass
class Data(Checked):
    """Which images and texts.

    Args:
        name: phrasecut, refcoco, refcoco+, voc2012, context59, coco, openimages or mini.
        root: Folder of the dataset.
        split: Part of it; null takes the one that the tables use.
        options: Further options of the dataset's reader.
        workers: Threads that decode images, in each process.
    """

    error: ClassVar = DataError
    section: ClassVar = "data."

    name: str
    root: Path | None = None
    split: str | None = None
    options: dict[str, Value] = field(default_factory=dict)
    workers: Count = 1


@dataclass
class ModelSource:
    """Which backbone, or bundle of backbone and prefix model (captioning needs one).

    Args:
        name: mini, a preset, a bundle's folder or hub id, or an open_clip model's name.
        pretrained: open_clip's tag or a checkpoint file, for an open_clip name.
        prefix: Which of a bundle's prefixes; null takes its default.
        offline: Use files of this machine only.
    """

    name: str = "mini"
    pretrained: str | None = None
    prefix: str | None = None
    offline: bool = False


@dataclass
class EmbedderSource:
    """How regions become vectors.

    Args:
        name: maskinversion, cls, crop, masked_crop, red_circle, fgvp, ris, maskclip, clip_surgery,
            sclip or alphaclip.
        options: Its options, such as lr and alpha.
    """

    name: str = "maskinversion"
    options: dict[str, Value] = field(default_factory=dict)


@dataclass
class SamSource:
    """Which Segment Anything model draws the masks of box_sam; the paper does not say.

    Args:
        name: A folder that transformers' SamModel and SamProcessor were saved to, or a hub id:
            facebook/sam-vit-base, -large or -huge.
        offline: Use files of this machine only.
    """

    name: str = "facebook/sam-vit-base"
    offline: bool = False


@dataclass
class Machines:
    """Where it runs; all processes need to see the output folder.

    Args:
        accelerator: As Lightning names it.
        devices: Processes on each machine.
        num_nodes: Machines.
        strategy: As Lightning names it; auto takes ddp for more than one process.
        progress: Show a progress bar.
    """

    accelerator: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    strategy: str = "auto"
    progress: bool = True


@dataclass
class Run(Checked):
    """One row of a table: a task asked about every image of a dataset.

    Args:
        task: captioning (Table 6), referring (Table 1) or classes (Tables 2 and 3).
        data: Images and texts.
        output: Folder for result.json, samples.jsonl and report.md; started again with the same
            settings, a run goes on where it stopped.
        model: Backbone, or bundle with a prefix model.
        embedder: How regions become vectors.
        judge: Whose text tower compares captions with expressions; null takes the model's own
            (the paper: ViT-L-14-quickgelu, openai).
        masks: What is done to the masks first (Table 4): erosion or dilation by a square, the
            filled bounding box for box, SAM's single mask for that box for box_sam. A mask that
            nothing would be left of stays as it is, or its box for box_sam, and is counted.
        mask_kernel: Side of that square, pixels, odd; the paper does not say.
        sam: Which SAM, for box_sam.
        template: Prompt around a class name or expression, with {}, for referring and classes; null
            takes the task's.
        decoding: Options of the prefix model's generate, for captioning.
        clipscore: Also report CLIPScore, for captioning: the judge looks at each region's crop,
            which without a GPU may take longer than all else.
        trainer: Processes and devices.
        limit: At most so many images, drawn with a fixed seed.
        skip_bad: Count and name images that are missing, damaged or of another picture than their
            annotations, instead of stopping there.
        sweep: Settings to vary, by dotted name, such as {embedder.options.alpha: [0, 1]}: one run
            for each combination, in folders below output, which gets their tables (report.md),
            results (result.json) and a plot (sweep.png).
    """

    error: ClassVar = DataError

    task: TaskName
    data: Data
    output: Path
    model: ModelSource = field(default_factory=ModelSource)
    embedder: EmbedderSource = field(default_factory=EmbedderSource)
    judge: ModelSource | None = None
    masks: MaskQuality = "exact"
    mask_kernel: Side = 5
    sam: SamSource = field(default_factory=SamSource)
    template: str | None = None
    decoding: dict[str, Value] = field(default_factory=dict)
    clipscore: bool = True
    trainer: Machines = field(default_factory=Machines)
    limit: int | None = None
    skip_bad: bool = False
    sweep: dict[str, list[Value]] = field(default_factory=dict)
