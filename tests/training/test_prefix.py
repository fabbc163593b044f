import lightning as L
import torch

from prefix_models.clipcap import ClipCap
from training.mini.decoder import tiny_clipcap
from training.pairs import Pairs
from training.prefix import PrefixTrainer, loaders


def _pairs():
    torch.manual_seed(0)
    texts = ["a red car on the snow", "an owl", "scissors and a blue bus", "corn"] * 8
    return Pairs(torch.randn(4, 16).repeat(8, 1), texts)


def _fit(model: ClipCap, steps: int, **options) -> float:
    trainer = L.Trainer(
        accelerator="cpu", max_steps=steps, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    module = PrefixTrainer(model, steps, warmup=5, **options)
    trainer.fit(module, *loaders(_pairs(), _pairs(), 16, seed=0))
    return trainer.callback_metrics["val_exact"].item()


def test_training_learns_its_captions():
    torch.manual_seed(0)
    assert _fit(tiny_clipcap(16, "test"), 60, lr=5e-3) == 1.0


def test_adapting_moves_the_mapper_and_nothing_else():
    torch.manual_seed(0)
    model = tiny_clipcap(16, "test").add_prefix("adapted")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    _fit(model, 5, mapper_only=True)
    changed = {n for n, v in model.state_dict().items() if not torch.equal(v, before[n])}
    assert changed and all(name.startswith("mappers.adapted.") for name in changed)
