"""Everything a training run can be told: keys of the YAML, options of `regionlm train`.

Nothing that loads torch may be imported here: jsonargparse resolves these annotations for `--help`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from prefix_models.checks import Checked, Count, PositiveCount, Range
from regionlm.cli.flags import Value
from regionlm.errors import InputError

Trains = Literal["mapper", "all", "lora"]
Schedule = Literal["cosine", "linear", "constant"]
Kind = Literal["clipcap", "projector"]
# Any would let jsonargparse make objects of a class_path, which no card can show.
Plain = bool | int | float | str | list | dict | None

Amount = Annotated[float, Range(0)]
NumpySeed = Annotated[int, Range(0, 2**32 - 1)]


@dataclass
class PairSet(Checked):
    """Examples of one source, and how their regions become vectors.

    Args:
        source: Where examples come from: manifest, coco_captions, visual_genome, phrasecut,
            webdataset, or clipcap (CLIPCap's own embedding file).
        options: Of the source, such as path.
        embedder: As `regionlm eval` names them; an example without region is embedded whole.
        embedder_options: Such as steps, lr and alpha; what is left out is the backbone's default.
        limit: At most so many examples, from the front.
        skip_bad: Leave out images, regions and captions that can't be used, and count them, instead
            of stopping there.
        workers: Threads that decode images, for each device that embeds.

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
    """What training starts from: a bundle, or a new prefix model of a backbone and an LM.

    Args:
        bundle: mini, a preset, or a bundle's folder or hub id; brings backbone and prefix model.
        prefix: Which of the bundle's prefixes; null takes its default.
        new_prefix: Train a copy of it under this name, and keep the old one.
        kind: Of a new prefix model. With a bundle it stands in front of the bundle's language
            model; null keeps the bundle's prefix model. Without one null means clipcap.
        backbone: Without a bundle: an open_clip model's name, or the folder of one.
        pretrained: open_clip's tag or a checkpoint file, for an open_clip name.
        language_model: Without a bundle: hub id or folder of any causal language model, or of LoRA
            adapters for one.
        options: Of a new prefix model: ClipCapConfig's or ProjectorConfig's, such as mapper and
            prefix_length.
        store_language_model: Whether the bundle holds the language model, or only says where it
            came from (a projector's can, unless recipe.trains is all).
        offline: Use files of this machine only.
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
    """How to train. How a batch is split over processes and micro-batches decides nothing but
    dropout's masks.

    Args:
        trains: mapper, with the language model as it is; all, both; or lora, the mapper and
            low-rank adapters on the language model.
        steps: Optimiser steps; or else say epochs.
        epochs: Passes over the pairs; of each, the rest that fills no batch is left out.
        batch_size: Pairs in an optimiser step, over all processes and accumulated micro-batches.
        lr: Peak learning rate of AdamW.
        warmup: Steps over which the learning rate rises linearly from zero.
        schedule: What follows: down to zero by a cosine or a line, or nothing.
        weight_decay: Of AdamW.
        noise: Standard deviation of Gaussian noise on the embeddings, as a fraction of their
            root-mean-square coordinate; keeps the mapper from leaning on single coordinates.
        lora: Options of `prefix_models.add_lora`: rank, alpha, dropout, target_modules.
        clipcap_original: The loss and the AdamW of CLIPCap's published code, mistakes included; see
            training/README.md.
        seed: Of initialisation, order, noise and dropout.
        checkpoint_every: Steps between checkpoints; a stopped run resumes from the last one.
        checkpoint_minutes: Save a checkpoint after so many minutes, too, at the end of a step.
        validate_every: Steps between validations.

    Raises:
        InputError: a number out of range, or LoRA's options where no LoRA is trained.
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
    """What only you can say in the bundle's model card.

    Args:
        license: As the hub writes it, such as apache-2.0.
        data: A sentence on the data and its licence.
    """

    license: str | None = None
    data: str | None = None


@dataclass
class Fit:
    """Train a prefix model and write a bundle of it.

    Args:
        output: Folder for the bundle, the loss curve and checkpoints; started again with the same
            settings, a run goes on where it stopped.
        data: Sets of (embedding, text) pairs, taken together.
        start: What is trained.
        recipe: How.
        validation: Sets of pairs to report the loss of.
        trainer: Lightning's own Trainer arguments, such as precision, devices, strategy,
            accumulate_grad_batches, gradient_clip_val and callbacks.
        store: Folder for embeddings, which are made once.
        name: Of the bundle; null takes the output folder's.
        card: For the bundle's model card.
        push_to_hub: Hub id to upload the bundle to in the end.
        private: Whether that is a private repository, if it is new.
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
