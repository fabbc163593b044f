"""The authors' conventions for attention-pooled models, on the modules themselves, by autograd.

benchmarks/published_pooled.py compares with the authors' package.
"""

import pytest
import torch
import torch.nn.functional as F

from regionlm.backbones import ClipViT
from regionlm.embedders import MaskInversion
from regionlm.errors import InputError
from regionlm.relevance import make_relevance
from regionlm.relevance.published import EMPTY_TEXT, EmptyTextCorrection
from tests.regionlm.tiny_timm import tiny_timm


def siglip():
    return tiny_timm("map", "none", class_token=False).double()


@pytest.fixture
def coca(tiny_clip):
    options = {"attentional_pool": True, "attn_pooler_queries": 3, "attn_pooler_heads": 4}
    return tiny_clip(**options).double()


def tokens(count, dim):
    return F.normalize(torch.randn(count, dim, dtype=torch.float64), dim=1)


def slopes_at_attention(attend, score, attention):
    """relu of the score's gradient at the first query's attention, mean over heads: ``[N]``."""
    attention = attention.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(score(attend(attention)), attention)
    return gradient[:, 0].clamp(min=0).mean(0)


@pytest.mark.parametrize("layers", [1, 2])
def test_siglip_without_its_final_norm_by_cosine(layers):
    model, pixels = siglip(), torch.randn(1, 3, 32, 32).double()
    (token,) = tokens(1, 32)
    trunk, wanted = model.visual.trunk, 0
    pool, outputs = trunk.attn_pool, []
    for block in trunk.blocks[-layers:]:
        block.register_forward_hook(lambda module, args, out: outputs.append(out))
    with torch.no_grad():
        model.encode_image(pixels)
    for x in outputs:
        k, v = pool.kv(x)[0].view(-1, 2, 4, 8).permute(1, 2, 0, 3)
        q = pool.q(pool.latent)[0].view(1, 4, 8).transpose(0, 1)
        attention = (q @ k.transpose(1, 2) / 8**0.5).softmax(-1)

        def attend(attention, v=v):
            pooled = pool.proj((attention @ v).transpose(0, 1).flatten(1))
            return pooled + pool.mlp(pool.norm(pooled))

        wanted = wanted + slopes_at_attention(
            attend, lambda f: F.cosine_similarity(f[0], token, dim=0), attention
        )
    backbone = ClipViT(model)
    encoded = backbone.encode(pixels, layers=layers)
    method = make_relevance("legrad", backbone, encoded, score="published")
    torch.testing.assert_close(method.forward(token[None]).flatten(), wanted)
    assert encoded.head.block.raw is False  # and the model's own embedding stays the start


def test_coca_without_its_norm_by_a_dot_product(coca):
    pixels, (token,) = torch.randn(1, 3, 32, 32).double(), tokens(1, 24)
    backbone = ClipViT(coca)
    encoded = backbone.encode(pixels)
    visual = coca.visual
    x = visual.attn_pool.ln_k(encoded.block_input)
    query = visual.attn_pool.ln_q(visual.attn_pool.query)[None]
    attention = visual.attn_pool.attn
    weights = attention(query, x, x, average_attn_weights=False)[1][0]
    values = F.linear(x, attention.v_proj_weight, attention.in_proj_bias[-24:])
    values = values[0].view(-1, 4, 6).transpose(0, 1)

    def score(mixed):
        pooled = attention.out_proj(mixed.transpose(0, 1).flatten(1))[0]
        return pooled @ visual.proj @ token

    wanted = slopes_at_attention(lambda weights: weights @ values, score, weights)
    method = make_relevance("legrad", backbone, encoded, score="published")
    torch.testing.assert_close(method.forward(token[None]).flatten(), wanted[1:])


@pytest.mark.parametrize("name", ["legrad", "chefer", "gradcam", "gradcam_no_relu"])
def test_every_methods_gradient_is_that_of_its_map(name):
    """By differences; these maps have no closed oracle of their own."""
    backbone = ClipViT(siglip())
    encoded = backbone.encode(torch.randn(1, 3, 32, 32).double())
    method = make_relevance(name, backbone, encoded, score="published", masks=1)
    token, step = tokens(1, 32), 1e-6 * tokens(1, 32)
    weights = torch.randn(1, 4, 4).double()
    after, before = (
        (method.forward(token + sign * step).clone() * weights).sum() for sign in (1, -1)
    )
    method.forward(token)
    slope = (method.backward(weights) * step).sum()
    torch.testing.assert_close(slope, (after - before) / 2, rtol=1e-4, atol=1e-12)


def test_an_image_embedding_has_a_slope_there(tmp_path):
    """Unlike for the model's own cosine: an inversion starts."""
    backbone = ClipViT(siglip())
    pixels = torch.randn(3, 32, 32).double()
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[0, :2, :2] = True
    found = MaskInversion(backbone, score="published")(pixels, mask)
    assert found.relevance.max() > 0 and found.loss[-1] < found.loss[0]


def test_models_with_a_class_token_are_explained_by_cosine_and_means_not_at_all(tiny_clip):
    backbone = ClipViT(tiny_clip())
    encoded, token = backbone.encode(torch.randn(1, 3, 32, 32)), torch.randn(1, 24)
    found, wanted = (
        make_relevance("legrad", backbone, encoded, score=score).forward(token)
        for score in ("published", "cosine")
    )
    assert torch.equal(found, wanted)
    backbone = ClipViT(tiny_clip("avg"), name="a mean")
    encoded = backbone.encode(torch.randn(1, 3, 32, 32))
    with pytest.raises(InputError, match=r"score: .* a mean; take cosine or dot"):
        make_relevance("legrad", backbone, encoded, score="published")


def test_patches_that_light_up_for_an_empty_text_are_zero():
    read = []

    def tokenizer(texts):
        read.extend(texts)
        return torch.tensor([[1, 2, 3, 0, 0, 0, 0, 0]])

    model = siglip()
    backbone = ClipViT(model, tokenizer=tokenizer)
    model.text.to(torch.float64)
    encoded = backbone.encode(torch.randn(1, 3, 32, 32).double())
    plain = make_relevance("legrad", backbone, encoded, masks=2)
    empty = plain.forward(F.normalize(backbone.embed_texts([EMPTY_TEXT]), dim=1))[0].clone()
    unit = (empty - empty.min()) / (empty.max() - empty.min())
    kept = unit <= 0.5
    assert 0 < kept.sum() < 16
    method = make_relevance("legrad", backbone, encoded, masks=2, empty_text=0.5)
    assert read[-1] == EMPTY_TEXT and (method.grid, method.chunk) == (plain.grid, plain.chunk)
    two, slopes = tokens(2, 32), torch.randn(2, 4, 4).double()
    torch.testing.assert_close(method.forward(two), plain.forward(two) * kept)
    torch.testing.assert_close(method.backward(slopes), plain.backward(slopes * kept))
    (all_kept,) = EmptyTextCorrection(plain, two[0], 1.0).forward(two[:1])
    assert torch.equal(all_kept, plain.forward(two[:1])[0])


def test_without_texts_there_is_no_empty_one(monkeypatch):
    backbone = ClipViT(siglip(), name="textless")
    monkeypatch.delattr(ClipViT, "embed_texts")
    encoded = backbone.encode(torch.randn(1, 3, 32, 32).double())
    with pytest.raises(InputError, match="empty_text: textless embeds no texts"):
        make_relevance("legrad", backbone, encoded, empty_text=0.8)
