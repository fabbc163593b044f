from functools import partial

import lightning
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from regionlm.backbones import ClipViT
from regionlm.embedders import Localized, MaskInversion
from regionlm.errors import InputError, ModelError
from regionlm.relevance import RELEVANCE
from regionlm.relevance.legrad_autograd import legrad_autograd
from tests.regionlm.relevance.autograd_maps import chefer_autograd, gradcam_autograd

MAPS = {
    "legrad": legrad_autograd,
    "gradcam": gradcam_autograd,
    "gradcam_no_relu": partial(gradcam_autograd, relu=False),
    "chefer": chefer_autograd,
}


def regions(count=3, height=24, width=40):
    masks = np.zeros((count, height, width), bool)
    for i in range(count):
        masks[i, 2 * i : 2 * i + 9, 5 * i + 1 : 5 * i + 17] = True
    return masks


def oracle(backbone, pixels, masks, steps, lr, alpha, weight_decay, score, relevance):
    """The published algorithm with double backward, image-sized maps and torch's AdamW."""
    with torch.no_grad():
        inputs, grid = backbone.trunk(pixels[None])
    start = backbone.embed_images(pixels[None])
    lets = start.repeat(len(masks), 1).requires_grad_()
    optimizer = torch.optim.AdamW([lets], lr=lr, weight_decay=weight_decay)
    target = torch.as_tensor(masks).flatten(1).to(start)
    losses, maps = [], []
    for step in range(steps + 1):
        unit = F.normalize(lets, dim=-1)
        raw = MAPS[relevance](backbone.head(), inputs[0], grid, unit, score)
        wide = F.interpolate(
            raw[:, None], scale_factor=backbone.patch_size, mode="bilinear", align_corners=False
        )
        low, high = wide.amin((2, 3), keepdim=True), wide.amax((2, 3), keepdim=True)
        unit_map = F.interpolate(
            (wide - low) / (high - low), size=masks.shape[1:], mode="bilinear",
            align_corners=False,
        )[:, 0]  # fmt: skip
        flat = unit_map.flatten(1)
        dice = (2 * (flat * target).sum(1) + 1) / (flat.sum(1) + target.sum(1) + 1)
        loss = 1 - dice + alpha * (1 - F.cosine_similarity(unit, start))
        maps = unit_map.detach()
        if step < steps:
            losses.append(loss.detach())
            optimizer.zero_grad()
            loss.mean().backward()
            optimizer.step()
    return lets.detach(), torch.stack(losses), maps, dice.detach()


def assert_same(found, wanted, atol=0.0):
    assert isinstance(found, Localized)
    for name in ("embeddings", "image_embedding", "relevance", "loss", "dice", "iou",
                 "cosine_to_image"):  # fmt: skip
        torch.testing.assert_close(getattr(found, name), getattr(wanted, name), atol=atol, rtol=0)


@pytest.mark.parametrize(
    "model, options",
    [
        ({"pool": "tok"}, {"lr": 0.1}),
        ({"pool": "tok", "quick_gelu": True}, {"lr": 0.5, "alpha": 5.0}),
        ({"pool": "tok", "ls_init_value": 0.4}, {"lr": 0.1, "weight_decay": 0.1, "score": "dot"}),
        ({"pool": "avg"}, {"lr": 0.2, "alpha": 0.5}),
        ({"pool": "tok"}, {"lr": 0.1, "relevance": "gradcam"}),
        ({"pool": "avg"}, {"lr": 0.1, "relevance": "gradcam"}),
        ({"pool": "tok", "quick_gelu": True}, {"lr": 0.5, "relevance": "gradcam_no_relu"}),
        ({"pool": "avg"}, {"lr": 0.1, "alpha": 0.5, "relevance": "gradcam_no_relu"}),
        ({"pool": "tok", "ls_init_value": 0.4}, {"lr": 0.1, "relevance": "chefer"}),
        ({"pool": "avg"}, {"lr": 0.2, "relevance": "chefer"}),
    ],
    ids=str,
)
def test_equals_the_published_algorithm(tiny_clip, model, options):
    backbone = ClipViT(tiny_clip(**model).double())
    defaults = {"steps": 6, "alpha": 0.0, "weight_decay": 0.0, "score": None}
    options = {**defaults, "relevance": "legrad", **options}
    pixels, masks = torch.randn(3, 24, 40).double(), regions(height=31, width=50)
    embedder = MaskInversion(backbone, **options)
    embedder.eps *= len(masks)  # the oracle's loss is a mean over the masks
    found = embedder(pixels, masks)
    lets, losses, maps, dice = oracle(backbone, pixels, masks, **options)
    torch.testing.assert_close(found.embeddings, lets, atol=1e-7, rtol=0)
    torch.testing.assert_close(found.loss, losses, atol=1e-8, rtol=0)
    torch.testing.assert_close(found.heatmaps(), maps, atol=1e-7, rtol=0)
    torch.testing.assert_close(found.dice, dice, atol=1e-8, rtol=0)
    predicted, wanted = maps > 0.5, torch.as_tensor(masks)
    iou = (predicted & wanted).flatten(1).sum(1) / (predicted | wanted).flatten(1).sum(1)
    torch.testing.assert_close(found.iou.float(), iou)
    cosine = F.cosine_similarity(lets, found.image_embedding[None])
    torch.testing.assert_close(found.cosine_to_image, cosine, atol=1e-8, rtol=0)
    assert found.relevance.shape == (3, 3, 5)
    assert (found.relevance >= 0).all() or options["relevance"] == "gradcam_no_relu"
    assert (losses[-1] != losses[0]).all()


def test_batches_equal_single_images(tiny_clip):
    backbone = ClipViT(tiny_clip().double())
    embedder = MaskInversion(backbone, steps=2, size=(24, 40))
    noise = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)
    images = [Image.fromarray(noise), torch.randn(3, 16, 16), torch.randn(3, 16, 16)]
    masks = [regions(2), regions(1, 30, 30), torch.as_tensor(regions(3, 30, 30))]
    found = embedder.localize_batch(images, masks)
    for one, image, mask in zip(found, images, masks, strict=True):
        assert_same(one, embedder(image, mask), atol=1e-6)
    assert embedder.localize_batch([], []) == []
    with pytest.raises(InputError, match="3 images and 2 sets"):
        embedder.localize_batch(images, masks[:2])


def snapshot(model):
    return [
        (name, p.detach().clone(), p.data_ptr(), p._version, p.requires_grad, p.grad)
        for name, p in model.named_parameters()
    ]


@pytest.mark.parametrize("relevance", RELEVANCE)
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_any_grad_mode_and_nothing_of_the_model_changes(tiny_clip, mode, relevance):
    model = tiny_clip()
    model.visual.proj.requires_grad_(False)
    model.visual.conv1.weight.grad = torch.ones_like(model.visual.conv1.weight)
    model.train()
    model.visual.transformer.eval()
    before, flags = snapshot(model), [m.training for m in model.modules()]
    keys = [sorted(vars(m)) for m in model.modules()]
    embedder = MaskInversion(ClipViT(model), steps=3, relevance=relevance)
    pixels, masks = torch.randn(3, 24, 40), torch.as_tensor(regions())
    wanted = embedder(pixels, masks)
    with mode():
        found = embedder(pixels.clone(), masks.clone())
        grad_mode = torch.is_grad_enabled()
    assert grad_mode == (mode is torch.enable_grad)
    assert_same(found, wanted)
    assert not found.embeddings.is_inference() and not found.embeddings.requires_grad
    (found.embeddings.requires_grad_() * 2).sum().backward()  # usable to train on
    for old, new in zip(before, snapshot(model), strict=True):
        assert old[0] == new[0] and torch.equal(old[1], new[1])
        assert old[2:5] == new[2:5] and old[5] is new[5]
    assert flags == [m.training for m in model.modules()]
    assert keys == [sorted(vars(m)) for m in model.modules()]


def test_inside_lightning_predict(tiny_clip):
    embedder = MaskInversion(ClipViT(tiny_clip()), steps=2)
    pixels, masks = torch.randn(2, 3, 24, 40), torch.as_tensor(regions(2))

    class Predictor(lightning.LightningModule):
        def predict_step(self, batch):
            assert torch.is_inference_mode_enabled()
            return embedder(batch[0], masks).embeddings

    trainer = lightning.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    loader = torch.utils.data.DataLoader(pixels, batch_size=1)
    found = trainer.predict(Predictor(), loader)
    for one, image in zip(found, pixels, strict=True):
        assert torch.equal(one, embedder(image, masks).embeddings)


def test_autocast_changes_nothing(tiny_clip):
    embedder = MaskInversion(ClipViT(tiny_clip()), steps=2)
    pixels, masks = torch.randn(3, 24, 40), regions()
    wanted = embedder(pixels, masks)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_same(embedder(pixels, masks), wanted)


@pytest.mark.parametrize("relevance", RELEVANCE)
def test_extreme_masks(tiny_clip, relevance):
    masks = np.zeros((4, 50, 70), bool)
    masks[0] = True
    masks[1, 49, 69] = masks[2, 0, 0] = True
    masks[3, ::2] = True
    for pool in ("tok", "avg"):
        embedder = MaskInversion(ClipViT(tiny_clip(pool)), lr=0.5, relevance=relevance)
        found = embedder(torch.randn(3, 32, 32), masks)
        for value in vars(found).values():
            assert not isinstance(value, torch.Tensor) or torch.isfinite(value).all()
        for score in (found.dice, found.iou, found.heatmaps()):
            assert (score >= 0).all() and (score <= 1).all()
        assert found.dice[0] > found.dice[1]  # all of the image is easier to cover than a pixel


@pytest.mark.parametrize("relevance", RELEVANCE)
def test_a_flat_start_stays_where_it_is(tiny_clip, relevance):
    """Mean-pooled model, cosine score: the gradient is zero at the image embedding."""
    backbone = ClipViT(tiny_clip("avg"))
    embedder = MaskInversion(backbone, steps=3, score="cosine", relevance=relevance)
    found = embedder(torch.randn(3, 32, 32), regions(1))
    assert_flat(found)


def assert_flat(found):
    torch.testing.assert_close(found.embeddings[0], found.image_embedding, atol=0, rtol=0)
    assert found.relevance.count_nonzero() == 0 and found.heatmaps().count_nonzero() == 0
    area = regions(1).sum()
    torch.testing.assert_close(found.dice, torch.tensor([1 / (area + 1)]).float())
    assert found.iou.item() == 0


def test_a_map_without_positive_relevance_stays_where_it_is(tiny_clip):
    """GradCAM's relu leaves nothing where all patches look alike and speak against the image."""
    model, pixels = tiny_clip(), 1 + 0.01 * torch.randn(3, 32, 32)
    model.visual.positional_embedding.data[1:] = 0
    backbone = ClipViT(model)
    for seed in range(20):  # heads until the patches' common sign is minus
        torch.manual_seed(seed)
        model.visual.proj.data.normal_()
        whole = MaskInversion(backbone, steps=0, relevance="gradcam_no_relu")(pixels, regions(1))
        if whole.relevance.max() < 0:
            break
    assert whole.relevance.max() < 0 < whole.heatmaps().max()
    assert_flat(MaskInversion(backbone, steps=3, relevance="gradcam")(pixels, regions(1)))


def test_a_single_patch_has_no_contrast(tiny_clip):
    found = MaskInversion(ClipViT(tiny_clip()), steps=2)(torch.randn(3, 8, 8), regions(2))
    assert found.relevance.shape == (2, 1, 1)
    assert torch.isfinite(found.embeddings).all() and found.iou.tolist() == [0, 0]


def test_zero_steps_return_the_image_embedding(tiny_clip):
    found = MaskInversion(ClipViT(tiny_clip()), steps=0)(torch.randn(3, 24, 40), regions())
    assert torch.equal(found.embeddings, found.image_embedding.expand(3, -1))
    assert found.loss.shape == (0, 3) and found.dice.shape == (3,)


def test_rescaled_embeddings_have_the_images_norm(tiny_clip):
    found = MaskInversion(ClipViT(tiny_clip()), lr=0.5)(torch.randn(3, 24, 40), regions())
    norms = found.rescaled().norm(dim=1)
    torch.testing.assert_close(norms, found.image_embedding.norm().expand(3))
    cosine = F.cosine_similarity(found.rescaled(), found.embeddings)
    torch.testing.assert_close(cosine, torch.ones(3))


def test_new_weights_are_noticed(tiny_clip):
    model, pixels = tiny_clip(), torch.randn(3, 24, 40)
    embedder = MaskInversion(ClipViT(model), steps=2)
    embedder(pixels, regions())
    model.load_state_dict(tiny_clip(seed=1).state_dict())
    wanted = MaskInversion(ClipViT(tiny_clip(seed=1)), steps=2)(pixels, regions())
    assert_same(embedder(pixels, regions()), wanted)


def test_defaults_come_from_the_backbone_then_the_paper(tiny_clip):
    plain = MaskInversion(ClipViT(tiny_clip(patch_size=15, image_size=30)))
    assert (plain.steps, plain.lr, plain.alpha, plain.weight_decay) == (10, 0.1, 0, 0)
    assert plain.size == (450, 450) and plain.score is None and plain.relevance == "legrad"
    defaults = {"steps": 3, "lr": 0.7, "size": [64, 32], "score": "dot", "relevance": "chefer"}
    backbone = ClipViT(tiny_clip(), inversion_defaults=defaults)
    own = MaskInversion(backbone, lr=0.2)
    assert (own.steps, own.lr, own.size, own.score) == (3, 0.2, (64, 32), "dot")
    assert own.relevance == "chefer"
    assert MaskInversion(backbone, relevance="gradcam").relevance == "gradcam"


@pytest.mark.parametrize(
    "options",
    [
        {"steps": -1}, {"steps": 2.0}, {"steps": True}, {"steps": 100_001},
        {"steps": np.True_}, {"steps": np.float32(2)}, {"lr": np.float32("nan")},
        {"lr": 0}, {"lr": -1}, {"lr": float("nan")},
        {"lr": float("inf")}, {"lr": 1e38}, {"lr": 10**400}, {"lr": "fast"}, {"alpha": -1},
        {"weight_decay": -0.1},
        {"alpha": float("inf")}, {"size": 0}, {"size": -32}, {"size": 100}, {"size": 8192},
        {"size": (32, 33)}, {"score": "euclid"}, {"relevance": "cam"}, {"relevance": ["legrad"]},
    ],
    ids=str,
)  # fmt: skip
def test_bad_options_are_named(tiny_clip, options):
    with pytest.raises(InputError, match=next(iter(options))) as caught:
        MaskInversion(ClipViT(tiny_clip()), **options)
    assert "\n" not in str(caught.value)


def test_scalars_of_numpy_are_numbers(tiny_clip):
    backbone = ClipViT(tiny_clip())
    ours = MaskInversion(
        backbone, steps=np.int64(3), lr=np.float32(0.5), alpha=np.float64(1), size=np.int64(32)
    )
    assert (type(ours.steps), type(ours.lr), type(ours.alpha)) == (int, float, float)
    assert ours.size == (32, 32) and all(type(side) is int for side in ours.size)
    assert MaskInversion(backbone, size=(np.int32(64), 32)).size == (64, 32)
    image = Image.new("RGB", (40, 24), "teal")
    plain = MaskInversion(backbone, steps=3, lr=0.5, alpha=1, size=32)
    assert_same(ours(image, regions()), plain(image, regions()))


def test_bad_masks_are_named(tiny_clip):
    embedder = MaskInversion(ClipViT(tiny_clip()), steps=1, size=32)
    image, good = Image.new("RGB", (40, 24)), regions()
    empty = good.copy()
    empty[1] = False
    cases = [
        (empty, "mask 1 of 3"),
        (good[0], r"\[M, H, W\]"),
        (good[:0], "M >= 1"),
        (good.transpose(0, 2, 1), "24 x 40"),
        (good * 255, "0/1"),
        (good * 0.5, "0/1"),
        (good.astype(complex), "dtype complex"),
        (good.astype(str), "dtype"),
        ([good], "list"),
    ]
    for masks, message in cases:
        with pytest.raises(InputError, match=message) as caught:
            embedder(image, masks)
        assert "\n" not in str(caught.value)
    wanted = embedder(image, good)
    for same in (good.astype(np.uint8), good.astype(np.float32), torch.as_tensor(good).int()):
        assert_same(embedder(image, same), wanted)


def test_bad_images_and_weights_are_named(tiny_clip):
    model = tiny_clip()
    embedder = MaskInversion(ClipViT(model), steps=1)
    for image in (torch.randn(1, 3, 24, 40), np.zeros((24, 40, 3)), torch.randn(3, 20, 40),
                  torch.full((3, 24, 40), torch.inf)):  # fmt: skip
        with pytest.raises(InputError, match=r"image|size|pixels"):
            embedder(image, regions())
    with pytest.raises(InputError, match="diverged"):
        MaskInversion(ClipViT(model), steps=9, lr=1e6, weight_decay=1e6)(
            torch.randn(3, 24, 40), regions()
        )
    model.visual.conv1.weight.data[0] = torch.nan
    with pytest.raises(ModelError, match=r"visual\.conv1\.weight holds NaN"):
        embedder(torch.randn(3, 24, 40), regions())


def test_it_finds_a_patch_it_can_find(tiny_clip):
    """A mask made from another token's map is a reachable target: the loss must fall towards it."""
    from regionlm.relevance import LeGrad

    backbone = ClipViT(tiny_clip())
    pixels = torch.randn(3, 64, 64)
    goal = F.normalize(torch.randn(1, 24), dim=1)
    target = LeGrad(backbone.encode(pixels[None])).forward(goal)
    wide = F.interpolate(target[:, None], size=64, mode="bilinear")[:, 0]
    masks = wide > wide.median()
    found = MaskInversion(backbone, steps=40, lr=0.3)(pixels, masks)
    assert found.loss[-1] < found.loss[0] - 0.05
    assert found.dice.item() > 1 - found.loss[0].item()
