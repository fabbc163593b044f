"""What a run's trainer decides; whole runs are in `tests/eval/runs` and `tests/regionlm/bulk`."""

import lightning as L
import torch
from torch.utils.data import DataLoader

from regionlm.distributed.trainer import new_trainer


def test_models_read_in_a_run_have_ordinary_weights():
    """As they have with several processes: other kernels add up inference tensors."""

    class Reads(L.LightningModule):
        def on_predict_start(self):
            self.model = torch.nn.Linear(2, 2)

        def predict_step(self, batch, index):
            return self.model.weight.is_inference(), torch.is_grad_enabled()

    found = new_trainer("cpu", 1).predict(Reads(), DataLoader(torch.zeros(1, 2)))
    assert found == [(False, False)]
