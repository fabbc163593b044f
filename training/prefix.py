"""The LightningModule that trains a prefix model on pairs of embedding and text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from prefix_models.base import PrefixModel
from prefix_models.errors import PrefixModelError
from prefix_models.lm.adapters import adapter_state
from regionlm.errors import InputError
from regionlm.extras import extra
from training.fit_settings import Recipe, Trains
from training.objectives import CaptionLoss, Objective
from training.optimizers import new_optimizer
from training.step_batches import (
    DROPOUT,
    Batch,
    PairDataset,
    Split,
    StepBatches,
    ValidationBatches,
    random_numbers,
    steps_per_epoch,
)

with extra("train"):
    import lightning as L
    from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
    from torchmetrics import MeanMetric


class PrefixTrainingModule(L.LightningModule):
    """Minimises the cross-entropy of texts given their embeddings, averaged over a step's tokens.

    A step depends on the weights, the seed and the step number, and not on the number of processes
    and micro-batches or on a resumption; only dropout's masks depend on how a batch is split.
    Lightning's trainer must not add samplers (`use_distributed_sampler=False`); see `training.fit`.

    Checkpoints hold only the weights that are trained, so those of a mapper are small. Strategies
    that split weights over processes store all of them, in their own way. During training,
    `requires_grad` is False for all other weights; afterwards it is as before.

    Args:
        model: the model to train, in place.
        recipe: how to train.
        train: pairs to train on.
        validation: pairs on which to report the loss.
        objective: the loss; by default the model's own.
    """

    def __init__(
        self,
        model: PrefixModel,
        recipe: Recipe,
        train: PairDataset,
        validation: PairDataset | None = None,
        objective: Objective | None = None,
    ) -> None:
        super().__init__()
        self.model, self.recipe = model, recipe
        self.train_pairs, self.validation_pairs = train, validation
        self.objective = objective or CaptionLoss(model)
        self.steps = total_steps(recipe, len(train))
        self.validation_loss = MeanMetric()
        self._required_grad: list[tuple[nn.Parameter, bool]] = []
        self._step_loss = torch.zeros(())
        self.started = False
        self.threads: int | None = None
        """Number of threads to compute with; None leaves it as it is."""
        self.trained_names = set(trained_names(model, recipe.trains))

    # --- what is trained

    def setup(self, stage: str) -> None:
        """Freeze what is not trained, before strategies look for parameters that need gradients."""
        if stage != "fit":
            return
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        named = list(self.model.named_parameters())
        self._required_grad = [(parameter, parameter.requires_grad) for _, parameter in named]
        for name, parameter in named:
            parameter.requires_grad_(name in self.trained_names)

    def teardown(self, stage: str) -> None:
        """Undo `setup`."""
        for parameter, required in self._required_grad:
            parameter.requires_grad_(required)

    def on_fit_start(self) -> None:
        """Put all modules in training mode; Lightning warns about others when training starts."""
        self.train()

    def on_train_start(self) -> None:
        """Turn dropout off in a language model that is not trained."""
        self.started = True
        if self.recipe.trains == "mapper":
            self.model.lm.eval()

    def configure_optimizers(self) -> Any:
        """The optimizer and schedule of `training.optimizers`."""
        trained = [p for p in self.model.parameters() if p.requires_grad]
        optimizer, schedule = new_optimizer(trained, self.recipe, self.steps)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    # --- checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remove weights that are not trained from the checkpoint."""
        for state in self._states(checkpoint):
            for name in state.keys() - self._keys:
                del state[name]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the weights that are not trained, with their present values."""
        for state in self._states(checkpoint):
            for name, value in self.state_dict().items():
                state.setdefault(name, value)

    @property
    def _keys(self) -> set[str]:
        return {f"model.{name}" for name in self.trained_names}

    def _states(self, checkpoint: dict[str, Any]) -> list[dict[str, Any]]:
        """The sets of weights in a checkpoint: one, or two if a callback has averaged them."""
        if not isinstance(self.trainer.strategy, DDPStrategy | SingleDeviceStrategy):
            return []
        dicts = [value for value in checkpoint.values() if isinstance(value, dict)]
        return [found for found in dicts if self._keys <= found.keys()]

    # --- data

    # No DataLoader: Lightning would warn that it has no workers.

    def train_dataloader(self) -> StepBatches:
        """The batches from the current step on."""
        recipe, split = self.recipe, self._split(self.trainer.accumulate_grad_batches)
        return StepBatches(
            self.train_pairs,
            self.steps,
            recipe.batch_size,
            recipe.seed,
            self.objective.count_tokens,
            noise=recipe.noise,
            first=self.trainer.global_step,
            split=split,
        )

    def val_dataloader(self) -> ValidationBatches | list[Any]:
        """The validation pairs, once."""
        if self.validation_pairs is None:
            return []
        return ValidationBatches(
            self.validation_pairs,
            self.recipe.batch_size,
            self.objective.count_tokens,
            self._split(),
        )

    def _split(self, micro: int = 1) -> Split:
        return Split(self.trainer.global_rank, self.trainer.world_size, micro)

    # --- steps

    def training_step(self, batch: Batch, number: int) -> Tensor:
        """Weighted loss of one micro-batch."""
        place = random_numbers(self.recipe.seed, DROPOUT, batch.step, batch.part)
        torch.manual_seed(int(place.integers(2**63)))
        loss = self.objective.loss(batch.embeddings, batch.texts) * batch.weight
        micro = self.trainer.accumulate_grad_batches
        self._step_loss = self._step_loss.to(loss.device) + loss.detach().float() / micro
        if batch.part // self.trainer.world_size == micro - 1:
            self._report(batch.step)
        return loss

    def _report(self, step: int) -> None:
        """Log the loss of the whole step. Raises PrefixModelError if it is not finite."""
        reduced: Any = self.trainer.strategy.reduce(self._step_loss, reduce_op="mean")
        self._step_loss = torch.zeros(())
        if not torch.isfinite(reduced):
            # A folder without steps is removed; see TrainingFolder.discard_if_unused.
            elsewhere = ", and give another --output or delete this folder" if step else ""
            raise PrefixModelError(
                f"the loss is {float(reduced)} at step {step}: lower recipe.lr, or give"
                f" trainer.gradient_clip_val, or bf16-mixed in place of 16-mixed{elsewhere}"
            )
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.log_dict({"loss": reduced, "lr": rate}, batch_size=1, prog_bar=True)

    def validation_step(self, batch: Batch, number: int) -> None:
        """Loss of one batch, weighted by its number of tokens."""
        loss = self.objective.loss(batch.embeddings, batch.texts)
        self.validation_loss.update(loss, weight=batch.weight)
        self.log("val_loss", self.validation_loss, batch_size=1, prog_bar=True)


def total_steps(recipe: Recipe, pairs: int) -> int:
    """Number of steps of a recipe. Raises InputError unless it gives either steps or epochs."""
    given = [value for value in (recipe.steps, recipe.epochs) if value is not None]
    if len(given) != 1 or given[0] < 1:
        raise InputError(
            "recipe: expected either steps or epochs, at least 1; found"
            f" steps {recipe.steps}, epochs {recipe.epochs}"
        )
    an_epoch = steps_per_epoch(pairs, recipe.batch_size)
    return recipe.steps if recipe.steps is not None else an_epoch * given[0]


def trained_names(model: PrefixModel, trains: Trains) -> Iterator[str]:
    """Names of the parameters that are trained; shared parameters have several names.

    Raises:
        PrefixModelError: the recipe trains adapters, but the language model has none.
    """
    adapters = adapter_state(model.lm)
    if trains == "lora" and not adapters:
        raise PrefixModelError(
            "recipe.trains: lora needs a language model with adapters; see prefix_models.add_lora"
        )
    chosen = {id(parameter) for parameter in model.mapper.parameters()}
    if trains != "mapper":
        lm = model.lm.parameters() if trains == "all" else adapters.values()
        chosen |= {id(parameter) for parameter in lm}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if id(parameter) in chosen:
            yield name
