"""What `regionlm train` does: embed the data, train, and write a bundle with its model card."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from regionlm.captioner import RegionCaptioner
from regionlm.distributed.rank import is_first_process, note_rank
from regionlm.errors import InputError
from regionlm.extras import extra
from regionlm.pretrained.hub import check_access
from training.card import Facts, write_card
from training.embeddings import PairSets, open_pairs
from training.fit import Fitted, fit_pairs
from training.fit_settings import Fit, PairSet
from training.lightning_options import (
    check_callbacks,
    check_loggers,
    deciding_options,
    machine_options,
    trainer_options,
)
from training.prefix import trained_names
from training.start import load_start
from training.texts import keep_usable, text_room
from training.training_folder import TrainingFolder

with extra("train"):
    import lightning as L


def fit(settings: Fit) -> RegionCaptioner:
    """Embed the data, train, write the bundle, and upload it if asked to.

    In a distributed run every process calls this, and all must see ``settings.output``.

    Raises:
        InputError, ModelError, PrefixModelError: settings, data or files that can't be used.
        UsageError: a trainer argument that can't be used.
        KeyboardInterrupt: SIGINT (Ctrl-C) or SIGTERM; the finished steps are saved.
    """
    note_rank()
    options = trainer_options(settings.trainer)
    check_callbacks(options.get("callbacks"), validates=bool(settings.validation))
    check_loggers(options.get("logger"))
    if settings.push_to_hub is not None:
        check_access(settings.push_to_hub)
    backbone, model = load_start(settings.start, settings.recipe)
    name = settings.name or settings.output.resolve().name
    captioner = RegionCaptioner(backbone, model, name=name)  # refuses parts that do not fit
    train, validation = _pairs(settings, captioner, options)
    folder = TrainingFolder(settings.output, _deciding(settings, train, validation))
    names = set(trained_names(model, settings.recipe.trains))
    trained = sum(p.numel() for name, p in model.named_parameters() if name in names)
    L.seed_everything(settings.recipe.seed, verbose=False)
    with folder.held():
        fitted = fit_pairs(model, settings.recipe, train, validation, folder, options)
        model.to("cpu")
        facts = Facts(
            name=name,
            backbone=backbone.name,
            language_model=settings.start.language_model
            or f"the bundle's {model.lm.config.model_type}",
            kind=type(model).__name__,
            pairs=(len(train), 0 if validation is None else len(validation)),
            trained=trained,
            fitted=fitted,
        )
        captioner.card = write_card(settings, facts)
        if fitted.is_first_process:
            captioner.save_pretrained(folder.bundle)
            print(f"{folder.bundle}: {_summary(fitted)}")
            _say_skipped(train, validation)
            if settings.push_to_hub is not None:
                print(captioner.push_to_hub(settings.push_to_hub, private=settings.private))
    return captioner


def compute_embeddings(settings: Fit) -> None:
    """Compute the embeddings that `fit` needs, and stop there; raises what it raises."""
    note_rank()
    options = trainer_options(settings.trainer)
    captioner = RegionCaptioner(*load_start(settings.start, settings.recipe), name="start")
    train, validation = _pairs(settings, captioner, options)
    count = 0 if validation is None else len(validation)
    if is_first_process():
        print(f"{settings.store}: {len(train)} pairs to train on, {count} to validate")
        _say_skipped(train, validation)


def _pairs(
    settings: Fit, captioner: RegionCaptioner, options: dict[str, Any]
) -> tuple[PairSets, PairSets | None]:
    if not settings.data:
        raise InputError("data: expected at least one set of pairs, found none")
    model, recipe = captioner.prefix_model, settings.recipe

    def opened(sets: list[PairSet]) -> PairSets:
        return open_pairs(
            sets, captioner.backbone, settings.store, machine_options(options),
            progress=options.get("enable_progress_bar") is not False,
            check=text_room(model, recipe).check,
        )  # fmt: skip

    train = opened(settings.data)
    validation = opened(settings.validation) if settings.validation else None
    room = text_room(model, recipe, train)
    kept = keep_usable(settings.data, train, room)
    _expect_some("data", kept)
    if validation is None:
        return kept, None
    kept_validation = keep_usable(settings.validation, validation, room)
    _expect_some("validation", kept_validation)
    return kept, kept_validation


def _expect_some(name: str, pairs: PairSets) -> None:
    if len(pairs):
        return
    why = ""
    if pairs.skipped:
        why = f": skip_bad left out all {pairs.skipped}; the first one: {pairs.first_skipped}"
    raise InputError(f"{name}: expected at least one pair, found none{why}")


def _say_skipped(train: PairSets, validation: PairSets | None) -> None:
    for name, pairs in (("data", train), ("validation", validation)):
        if pairs is not None and pairs.skipped:
            print(f"{name}: left out {pairs.skipped} that can't be used: {pairs.first_skipped}")


def _deciding(settings: Fit, train: PairSets, validation: PairSets | None) -> dict[str, Any]:
    """All settings that the weights depend on, as they are read back from a JSON file."""
    values = asdict(settings)
    for name in ("output", "store", "name", "card", "push_to_hub", "private"):
        del values[name]
    del values["recipe"]["checkpoint_every"], values["recipe"]["checkpoint_minutes"]
    del values["start"]["offline"], values["start"]["store_language_model"]
    for one in (*values["data"], *values["validation"]):
        del one["workers"]
    values["trainer"] = deciding_options(settings.trainer)
    values["pairs"] = [len(train), 0 if validation is None else len(validation)]
    values["embeddings"] = [pairs.digests for pairs in (train, validation) if pairs is not None]
    return json.loads(json.dumps(values, default=str))


def _summary(fitted: Fitted) -> str:
    figures = {"loss": fitted.loss, "validation loss": fitted.val_loss}
    said = [f"{name} {value:.4f}" for name, value in figures.items() if value is not None]
    where = f"{fitted.processes} process" + "es" * (fitted.processes > 1)
    threads = f"{fitted.threads} thread" + "s" * (fitted.threads > 1)
    return ", ".join([f"{fitted.steps} steps", *said, f"in {where} with {threads}"])
