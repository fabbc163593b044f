import torch

from regionlm.backbones.vision import EncodedImages
from regionlm.relevance import CheferCam, LeGrad


def test_a_patch_that_nobody_attends_to_stays_dark(case, monkeypatch):
    encoded, token = case[1], torch.randn(1, 24, dtype=torch.float64)
    attention = encoded.attention(0, encoded.head.pooled_tokens)
    attention[:, :, encoded.head.prefix + 2] = 0
    monkeypatch.setattr(EncodedImages, "attention", lambda *_: attention)
    cam = CheferCam(encoded)
    maps = cam.forward(token)
    assert maps.flatten()[2] == 0 and maps.count_nonzero() > 0
    only_there = torch.zeros_like(maps).flatten()
    only_there[2] = 1
    assert cam.backward(only_there.view_as(maps)).count_nonzero() == 0
    assert LeGrad(encoded).forward(token).flatten()[2] > 0


def test_attention_is_the_encoders(case):
    """Mixing the values by it gives the stream that the fast attention gave."""
    _, encoded, inputs, _ = case
    attention = encoded.attention(1)
    torch.testing.assert_close(attention.sum(-1), torch.ones_like(attention[..., 0]))
    mixed = (attention @ encoded.values[1])[None]
    residual = encoded.head.block.after_attention(inputs[1, None], mixed)
    torch.testing.assert_close(residual[0], encoded.residual[1])
    rows = encoded.head.pooled_tokens
    torch.testing.assert_close(encoded.attention(1, rows), attention[:, rows])
    assert not attention.requires_grad
