import torch

from regionlm.relevance import Budget, LeGrad


def test_buffers_do_not_grow_with_masks(case):
    encoded = case[1]
    sizes = []
    for masks in (100, 5000):
        chunk = 100_000 if encoded.residual.shape[1] > 1 else 10_000  # the pool has one query
        legrad = LeGrad(encoded, masks=masks, budget=Budget(chunk, 1000, 2000))
        assert legrad.chunk < 100
        owners = (legrad._queries, legrad._attention)
        held = [v for o in owners for v in vars(o).values() if isinstance(v, torch.Tensor)]
        sizes.append(sum(v.numel() for v in held))
    assert sizes[0] == sizes[1]
