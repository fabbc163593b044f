"""Short trainings of the tiny models, and what tests compare of them."""

import torch

from training.curve import read_curve
from training.fit import fit_pairs
from training.fit_settings import Recipe
from training.training_folder import TrainingFolder

from .tiny import pairs

RECIPE = Recipe(steps=12, batch_size=8, lr=5e-3, warmup=3, checkpoint_every=4, noise=0.1)
OPTIONS = {"accelerator": "cpu", "log_every_n_steps": 1, "enable_progress_bar": False}


def fit_tiny(model, folder, recipe=RECIPE, validation=None, **options):
    run = TrainingFolder(folder, {})
    fit_pairs(model, recipe, pairs(), validation, run, {**OPTIONS, **options})
    return run


def same_weights(a, b, **tolerance):
    for name, value in a.state_dict().items():
        torch.testing.assert_close(value, b.state_dict()[name], msg=name, **tolerance)


def losses(run):
    return [row["loss"] for row in read_curve(run.curve) if "loss" in row]
