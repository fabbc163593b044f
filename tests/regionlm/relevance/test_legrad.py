import torch

from regionlm.backbones import ClipViT
from regionlm.relevance import Budget, LeGrad, MergedWeights


def test_buffers_do_not_grow_with_masks(case):
    encoded = case[1]
    sizes = []
    for masks in (100, 5000):
        legrad = LeGrad(encoded, masks=masks, budget=Budget(100_000, 1000, 2000))
        assert legrad.chunk < 100
        owners = (legrad._queries, legrad._attention)
        held = [v for o in owners for v in vars(o).values() if isinstance(v, torch.Tensor)]
        sizes.append(sum(v.numel() for v in held))
    assert sizes[0] == sizes[1]


def test_merged_weights_name_all_their_sources(tiny_clip):
    """Changing any one of them changes the result, and no other tensor of the block does."""
    block = ClipViT(tiny_clip(ls_init_value=0.5)).head().block
    before = MergedWeights.of(block)
    sources = {id(t) for t in MergedWeights.sources(block)}
    fields = [*vars(block).values(), block.norm_2.weight, block.norm_2.bias]
    fields += [block.norm_1.weight]
    for tensor in (f for f in fields if isinstance(f, torch.Tensor)):
        with torch.no_grad():
            kept = tensor.clone()
            tensor.add_(torch.randn_like(tensor))
            after = MergedWeights.of(block)
            tensor.copy_(kept)
        same = all(torch.equal(a, b) for a, b in
                   zip(vars(before).values(), vars(after).values(), strict=True))  # fmt: skip
        assert same == (id(tensor) not in sources)
