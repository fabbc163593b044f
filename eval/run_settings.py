"""The settings of an evaluation: keys of its YAML file and options of `regionlm eval`.

Nothing that loads torch may be imported here: `--help` resolves these annotations.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from prefix_models.checks import Checked, Count, Described
from regionlm.backbones.trunk_options import AS_USUAL, TrunkOptions
from regionlm.cli.flags import Value
from regionlm.datasets.data_errors import DataError

TaskName = Literal["captioning", "referring", "classes"]
MaskQuality = Literal["exact", "erosion", "dilation", "box", "box_sam"]
Side = Annotated[
    int, Described("3, 5, 7 or another odd number", fits=lambda side: side >= 3 and side % 2)
]


@dataclass
class Data(Checked):
    """The images and texts.

    Args:
        name: phrasecut, refcoco, refcoco+, voc2012, context59, coco, openimages or mini.
        root: Folder of the dataset.
        split: Split of the dataset; null takes the one that the paper's tables use.
        options: Further options of the dataset.
        workers: Threads that decode images in each process.
    """

    error: ClassVar[type[DataError]] = DataError
    section: ClassVar[str] = "data."

    name: str
    root: Path | None = None
    split: str | None = None
    options: dict[str, Value] = field(default_factory=dict)
    workers: Count = 1


@dataclass
class ModelSource:
    """The backbone, or a bundle of backbone and prefix model, which captioning needs.

    Args:
        name: mini, a preset, the folder or hub id of a bundle, or any backbone, such as the
            open_clip model ViT-B-32/openai.
        pretrained: For an open_clip name without a tag: the tag or a checkpoint file.
        prefix: Which of the bundle's prefixes; null takes its default.
        offline: Only use files on this machine.
    """

    name: str = "mini"
    pretrained: str | None = None
    prefix: str | None = None
    offline: bool = False


@dataclass
class EmbedderSource:
    """How regions become embeddings.

    Args:
        name: maskinversion, cls, crop, masked_crop, red_circle, fgvp, ris, maskclip, clip_surgery,
            sclip or alphaclip.
        options: Options of the method, such as lr and alpha.
    """

    name: str = "maskinversion"
    options: dict[str, Value] = field(default_factory=dict)


@dataclass
class SamSource:
    """The Segment Anything model that draws the masks of box_sam. The paper does not name one.

    Args:
        name: A folder that transformers' SamModel and SamProcessor were saved to, or a hub id:
            facebook/sam-vit-base, -large or -huge.
        offline: Only use files on this machine.
    """

    name: str = "facebook/sam-vit-base"
    offline: bool = False


@dataclass
class Machines:
    """Processes and devices. All processes must be able to see the output folder.

    Args:
        accelerator: An accelerator of Lightning's, such as cpu or gpu.
        devices: Number of processes on each machine.
        num_nodes: Number of machines.
        strategy: A strategy of Lightning's; auto means ddp for more than one process.
        progress: Show a progress bar.
    """

    accelerator: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    strategy: str = "auto"
    progress: bool = True


@dataclass
class Run(Checked):
    """One row of a table: a task on every image of a dataset.

    Args:
        task: captioning (Table 6), referring (Table 1) or classes (Tables 2 and 3).
        data: Images and texts.
        output: Folder for result.json, samples.jsonl and report.md. Repeat the command to resume a
            run that was stopped.
        model: Backbone, or a bundle with a prefix model.
        embedder: How regions become embeddings.
        judge: The model whose text tower compares captions with expressions (in the paper,
            ViT-L-14-quickgelu, openai); null takes the evaluated model's own.
        masks: How to change the masks first (Table 4): erosion or dilation by a square; box, the
            filled bounding box; box_sam, the mask that SAM draws for that box. Where nothing would
            be left, the original mask is kept (for box_sam, the box) and counted.
        mask_kernel: Side of the square in pixels, odd. The paper names none.
        sam: Which SAM draws the masks of box_sam.
        template: For referring and classes, the prompt around an expression or class name, with {}
            in its place; null takes the task's own.
        decoding: For captioning, options of the prefix model's generate.
        clipscore: For captioning, also report CLIPScore. The judge then looks at each region's
            crop, which may take longer than everything else without a GPU.
        trainer: Processes and devices.
        limit: Evaluate this many images at most, drawn with a fixed seed.
        skip_bad: Skip, count and name images that are missing, damaged or do not fit their
            annotations, instead of stopping at the first.
        trunk: How the model's trunk is computed.
        sweep: Settings to vary, by dotted name, such as {embedder.options.alpha: [0, 1]}. Each
            combination is a run in a folder of its own below output; their tables (report.md),
            results (result.json) and plot (sweep.png) are written to output.
    """

    error: ClassVar[type[DataError]] = DataError

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
    trunk: TrunkOptions = AS_USUAL
    sweep: dict[str, list[Value]] = field(default_factory=dict)
