"""The settings of a training run: keys of its YAML file, and options of `regionlm train`.

Nothing here may import torch, since `--help` resolves these annotations. They are not postponed,
for jsonargparse 4.49 can't resolve postponed ones on Python 3.10.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from prefix_models.checks import Checked, Count, PositiveCount, Range
from regionlm.cli.flags import Value
from regionlm.errors import InputError

Trains = Literal["mapper", "all", "lora"]
Schedule = Literal["cosine", "linear", "constant"]
Kind = Literal["clipcap", "projector"]
# With Any, jsonargparse would make objects of a class_path, which a card can't show.
Plain = bool | int | float | str | list | dict | None

Amount = Annotated[float, Range(0)]
NumpySeed = Annotated[int, Range(0, 2**32 - 1)]


@dataclass
class PairSet(Checked):
    """Examples from one source, and how their regions become vectors.

    Args:
        source: Where examples come from: manifest, coco_captions, visual_genome, phrasecut,
            webdataset, or clipcap (CLIPCap's own embedding file).
        options: Options of the source, such as path.
        embedder: Name of an embedder, as in `regionlm eval`. An example without regions is embedded
            as a whole.
        embedder_options: Options such as steps, lr and alpha; the others keep the defaults of the
            backbone.
        limit: Use only the first so many examples.
        skip_bad: Leave out and count images, regions and captions that can't be used, instead of
            stopping there.
        workers: Threads that decode images, for each device.

    Raises:
        InputError: a number out of range.
    """

    error: ClassVar[type[InputError]] = InputError
    section: ClassVar[str] = "data."

    source: str
    options: dict[str, Value] = field(default_factory=dict)
    embedder: str = "maskinversion"
    embedder_options: dict[str, Value] = field(default_factory=dict)
    limit: PositiveCount | None = None
    skip_bad: bool = False
    workers: Count = 0


@dataclass
class Start(Checked):
    """What training starts from: a bundle, or a backbone and a language model.

    Args:
        bundle: mini, a preset, or the folder or hub id of a bundle, which has a backbone and a
            prefix model.
        prefix: One of the bundle's prefixes; null takes its default.
        new_prefix: Train a copy of that prefix under this name, and keep the old one.
        kind: Kind of a new prefix model. With a bundle, the new one uses the bundle's language
            model, and null keeps the bundle's prefix model. Without a bundle, null means clipcap.
        backbone: Without a bundle: the name or the folder of an open_clip model.
        pretrained: With the name of an open_clip model: its tag, or a checkpoint file.
        language_model: Without a bundle: hub id or folder of a causal language model, or of LoRA
            adapters for one.
        options: Options of a new prefix model (ClipCapConfig or ProjectorConfig), such as mapper
            and prefix_length.
        store_language_model: Copy the language model into the bundle. With a projector, false only
            stores where it is from, unless recipe.trains is all.
        offline: Use only files on this machine.
    """

    error: ClassVar[type[InputError]] = InputError
    section: ClassVar[str] = "start."

    bundle: str | None = None
    prefix: str | None = None
    new_prefix: str | None = None
    kind: Kind | None = None
    backbone: str | None = None
    pretrained: str | None = None
    language_model: str | None = None
    options: dict[str, Value] = field(default_factory=dict)
    store_language_model: bool = True
    offline: bool = False


@dataclass
class Recipe(Checked):
    """How to train.

    How a batch is split over processes and micro-batches changes nothing but dropout's masks.

    Args:
        trains: mapper alone; all, the mapper and the language model; or lora, the mapper and
            low-rank adapters of the language model.
        steps: Number of optimiser steps; give either this or epochs.
        epochs: Number of passes over the pairs; each leaves out a last batch that is not full.
        batch_size: Pairs in an optimiser step, over all processes and accumulated micro-batches.
        lr: Peak learning rate of AdamW.
        warmup: Steps over which the learning rate rises linearly from zero.
        schedule: Learning rate after the warmup: down to zero by a cosine or a line, or constant.
        weight_decay: Weight decay of AdamW.
        noise: Standard deviation of Gaussian noise on the embeddings, as a fraction of their
            root-mean-square coordinate; it keeps the mapper from relying on single coordinates.
        lora: Options of the adapters: rank, alpha, dropout, target_modules.
        clipcap_original: Use the loss and the AdamW of CLIPCap's published code, with its mistakes;
            see training/README.md.
        seed: Seed of initialisation, order, noise and dropout.
        checkpoint_every: Steps between checkpoints; a stopped run resumes from the last one.
        checkpoint_minutes: Longest time between checkpoints; one is saved at the end of a step.
        validate_every: Steps between validations.

    Raises:
        InputError: a number out of range, or options of LoRA where none is trained.
    """

    error: ClassVar[type[InputError]] = InputError
    section: ClassVar[str] = "recipe."

    trains: Trains = "mapper"
    steps: int | None = None
    epochs: int | None = None
    batch_size: PositiveCount = 256
    lr: Annotated[float, Range(above=0)] = 1e-3
    warmup: Count = 100
    schedule: Schedule = "cosine"
    weight_decay: Amount = 0.01
    noise: Amount = 0.0
    lora: dict[str, Value] = field(default_factory=dict)
    clipcap_original: bool = False
    seed: NumpySeed = 1
    checkpoint_every: PositiveCount = 500
    checkpoint_minutes: Amount = 10.0
    validate_every: PositiveCount = 500

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lora and self.trains != "lora":
            raise InputError(
                f"recipe.lora: goes with recipe.trains lora, found {self.trains}; leave it out"
            )


@dataclass
class Card:
    """What the model card says that only you know.

    Args:
        license: Licence as the hub writes it, such as apache-2.0.
        data: A sentence about the data and its licence.
    """

    license: str | None = None
    data: str | None = None


@dataclass
class Fit:
    """Train a prefix model and write a bundle of it.

    Args:
        output: Folder for the bundle, the loss curve and checkpoints. A stopped run resumes when it
            is repeated with the same settings.
        data: Sets of pairs of embedding and text to train on, taken together.
        start: What is trained.
        recipe: How to train.
        validation: Sets of pairs on which to report the loss.
        trainer: Lightning's own Trainer arguments, such as precision, devices, strategy,
            accumulate_grad_batches, gradient_clip_val and callbacks.
        store: Folder for embeddings, which are computed once.
        name: Name of the bundle; null takes that of the output folder.
        card: Facts for the model card.
        push_to_hub: Hub id to which the bundle is uploaded at the end.
        private: Create a private repository there, if it is new.
    """

    output: Path
    data: list[PairSet]
    start: Start
    recipe: Recipe = field(default_factory=Recipe)
    validation: list[PairSet] = field(default_factory=list)
    trainer: dict[str, Plain] = field(default_factory=dict)
    store: Path = Path("runs/embeddings")
    name: str | None = None
    card: Card = field(default_factory=Card)
    push_to_hub: str | None = None
    private: bool = False
