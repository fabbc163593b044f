import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision import transforms

from regionlm.backbones import ClipViT
from regionlm.backbones.blocks import Activation
from regionlm.backbones.clip_vit import OPENAI_MEAN, OPENAI_STD
from regionlm.backbones.loading import build_model, load_backbone
from regionlm.backbones.positions import resample_positions
from regionlm.backbones.sizes import nearest_size
from regionlm.embedders import MaskInversion
from regionlm.errors import InputError, ModelError
from regionlm.pretrained.bundle import MINI

VARIANTS = [
    {},
    {"pool": "avg"},
    {"quick_gelu": True},
    {"ls_init_value": 0.3},
    {"no_ln_pre": True, "pool": "avg"},
    {"act_kwargs": {"approximate": "tanh"}},
    {"image_size": (24, 40)},
    {"mlp_ratio": 4.9231, "head_width": 16},
    {"norm_kwargs": {"eps": 1e-3}},
    {"patch_dropout": 0.5},
]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_embeddings_equal_the_models_own(tiny_clip, variant):
    model = tiny_clip(**variant)
    backbone = ClipViT(model)
    pixels = torch.randn(2, 3, *backbone.default_size)
    with torch.no_grad():
        wanted = model.encode_image(pixels)
    torch.testing.assert_close(backbone.embed_images(pixels), wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(backbone.encode(pixels).embeddings, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["ViT-L-14-336", "ViT-H-14", "ViT-g-14", "ViT-bigG-14"])
def test_the_large_models_in_their_own_widths(name):
    """Two of their blocks, whose width, heads, patch and MLP are as published."""
    config = open_clip.get_model_config(name)
    config["vision_cfg"]["layers"] = 2
    config["text_cfg"] = {
        "context_length": 8,
        "vocab_size": 64,
        "width": 16,
        "heads": 2,
        "layers": 1,
    }
    model = build_model(config, name).eval()
    backbone = ClipViT(model, name=name)
    pixels = torch.randn(1, 3, *backbone.default_size)
    with torch.no_grad():
        wanted = model.encode_image(pixels)
    torch.testing.assert_close(backbone.embed_images(pixels), wanted, atol=1e-4, rtol=1e-4)
    side = 8 * backbone.patch_size[0]  # so many patches are enough, and quick
    masks = np.zeros((2, side, side), bool)
    masks[0, :50, :50] = masks[1, 60:, 30:] = True
    found = MaskInversion(backbone, steps=2, lr=0.02)(pixels[0, :, :side, :side], masks)
    assert found.embeddings.shape == (2, config["embed_dim"])
    assert (found.loss[-1] < found.loss[0]).all() and torch.isfinite(found.relevance).all()


def test_a_model_in_training_mode_is_read_without_its_dropout(tiny_clip):
    model = tiny_clip(patch_dropout=0.5)
    pixels = torch.randn(1, 3, 32, 32)
    wanted = ClipViT(model).embed_images(pixels)
    model.train()
    torch.testing.assert_close(ClipViT(model).embed_images(pixels), wanted)
    assert model.training


@pytest.mark.parametrize("pool", ["tok", "avg"])
def test_encoded_images_hold_the_last_block(tiny_clip, pool):
    model = tiny_clip(pool)
    backbone = ClipViT(model)
    pixels = torch.randn(2, 3, 32, 32)
    encoded = backbone.encode(pixels)
    outputs = {}
    hook = model.visual.transformer.register_forward_hook(
        lambda module, args, out: outputs.update(last=out)
    )
    with torch.no_grad():
        model.encode_image(pixels)
    hook.remove()
    last = outputs["last"]
    mean = last[:, 1:].mean(1) if pool == "avg" else last.mean(1)
    torch.testing.assert_close(encoded.score_mean, mean, atol=1e-5, rtol=1e-5)
    block = encoded.head.block
    rebuilt = encoded.residual + block.mlp_output(block.hidden(encoded.pre_activation))
    torch.testing.assert_close(rebuilt, last, atol=1e-5, rtol=1e-5)
    assert encoded.grid == (4, 4) and len(encoded) == 2
    assert not encoded.residual.requires_grad


def test_other_sizes_equal_a_model_built_for_them(tiny_clip):
    """open_clip resamples positions itself when it loads weights into another image size."""
    from open_clip.model import resize_pos_embed

    small, large = tiny_clip(), tiny_clip(image_size=(48, 80))
    state = small.state_dict()
    # open_clip resizes square grids only, so compare with a square one and check the other's shape
    square = tiny_clip(image_size=56)
    resized = dict(state)
    resize_pos_embed(resized, square)
    square.load_state_dict(resized)
    pixels = torch.randn(1, 3, 56, 56)
    with torch.no_grad():
        wanted = square.encode_image(pixels)
    torch.testing.assert_close(ClipViT(small).embed_images(pixels), wanted, atol=1e-5, rtol=1e-5)
    large.load_state_dict(
        {
            **state,
            "visual.positional_embedding": resample_positions(
                state["visual.positional_embedding"], (4, 4), (6, 10)
            ),
        }
    )
    pixels = torch.randn(1, 3, 48, 80)
    with torch.no_grad():
        wanted = large.encode_image(pixels)
    torch.testing.assert_close(ClipViT(small).embed_images(pixels), wanted, atol=1e-5, rtol=1e-5)


def test_sizes_do_not_corrupt_each_other(tiny_clip):
    model = tiny_clip()
    backbone, before = ClipViT(model), model.visual.positional_embedding.detach().clone()
    pixels = torch.randn(1, 3, 32, 32)
    first = backbone.embed_images(pixels)
    backbone.embed_images(torch.randn(1, 3, 64, 16))
    torch.testing.assert_close(backbone.embed_images(pixels), first, atol=0, rtol=0)
    torch.testing.assert_close(model.visual.positional_embedding.detach(), before, atol=0, rtol=0)
    assert resample_positions(before, (4, 4), (4, 4)) is before


def test_new_weights_are_noticed_whichever_way_they_come(tiny_clip):
    model, other = tiny_clip(), tiny_clip(seed=1)
    backbone = ClipViT(model)
    pixels = torch.randn(1, 3, 48, 48)  # another grid: positions are resampled and remembered
    backbone.embed_images(pixels)
    for assign in (False, True):
        other = tiny_clip(seed=2 + assign)
        model.load_state_dict(other.state_dict(), assign=assign)
        wanted = ClipViT(other).embed_images(pixels)
        torch.testing.assert_close(backbone.embed_images(pixels), wanted)


def test_preprocessing_is_the_published_one(tiny_clip):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8))
    published = transforms.Compose(
        [
            transforms.Resize((48, 64), interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.ToTensor(),
            transforms.Normalize(OPENAI_MEAN, OPENAI_STD),
        ]
    )
    backbone = ClipViT(tiny_clip())
    torch.testing.assert_close(
        backbone.preprocess(image, (48, 64)), published(image), atol=1e-6, rtol=0
    )
    assert backbone.preprocess(image).shape == (3, 32, 32)
    assert backbone.preprocess(image.convert("L"), 16).shape == (3, 16, 16)


def test_text_embeddings_are_the_models_own(tiny_clip):
    import open_clip

    model, tokenizer = tiny_clip(), open_clip.SimpleTokenizer(context_length=8)
    backbone = ClipViT(model, tokenizer=tokenizer)
    texts = ["a dog", "two cats on a very long red mat by the door"]
    with torch.no_grad():
        wanted = model.encode_text(tokenizer(texts))
    torch.testing.assert_close(backbone.embed_texts(texts), wanted)
    with pytest.raises(InputError, match="non-empty list of strings"):
        backbone.embed_texts("a dog")
    with pytest.raises(InputError, match="non-empty list of strings"):
        backbone.embed_texts([])
    with pytest.raises(ModelError, match="no tokenizer"):
        ClipViT(model).embed_texts(texts)


def test_a_tokenizer_of_another_model_is_refused():
    own = open_clip.SimpleTokenizer(context_length=8)
    for custom in (open_clip.CLIP, open_clip.CustomTextCLIP):
        vision = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 1, "head_width": 8}
        text = {"context_length": 8, "vocab_size": 40, "width": 16, "heads": 2, "layers": 1}
        backbone = ClipViT(custom(24, vision, text), tokenizer=own, name="other")
        with pytest.raises(ModelError, match="token 49407, but its text tower has only 40"):
            backbone.embed_texts(["a dog"])


def test_half_a_character_in_a_text_is_a_replacement_character(tiny_clip):
    import open_clip

    tokenizer = open_clip.SimpleTokenizer(context_length=8)
    backbone = ClipViT(tiny_clip(), tokenizer=tokenizer)
    found, wanted = backbone.embed_texts(["a \ud83d dog", "a \ufffd dog"])
    assert torch.equal(found, wanted)
    mini = load_backbone(str(MINI / "backbone"), device="cpu")
    found, wanted = mini.embed_texts(["a \udcff fox", "a \ufffd fox"])
    assert torch.equal(found, wanted)
    assert mini.tokenizer.unknown_words("a \udcff fox") == ["\ufffd"]


def test_autocast_and_inference_mode_change_nothing(tiny_clip):
    backbone, pixels = ClipViT(tiny_clip()), torch.randn(1, 3, 32, 32)
    wanted = backbone.embed_images(pixels)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode():
        found = backbone.embed_images(pixels.clone())
    torch.testing.assert_close(found, wanted, atol=0, rtol=0)
    assert found.dtype == torch.float32 and not found.is_inference()


@pytest.mark.parametrize(
    "pixels, message",
    [
        (torch.zeros(3, 32, 32), r"\[B, 3, H, W\]"),
        (torch.zeros(1, 1, 32, 32), r"\[B, 3, H, W\]"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), "normalised floats"),
        (torch.zeros(1, 3, 33, 32), "multiples of the patch"),
        (torch.zeros(1, 3, 8, 8200), "up to 4096"),
        (torch.full((1, 3, 32, 32), torch.nan), "NaN"),
    ],
)
def test_bad_pixels_are_named(tiny_clip, pixels, message):
    with pytest.raises(InputError, match=message):
        ClipViT(tiny_clip()).encode(pixels)


@pytest.mark.parametrize("size", [0, -8, 33, 100_000, True, 32.0, "32", (32, 32, 32), (32, 12)])
def test_bad_sizes_are_refused(tiny_clip, size):
    with pytest.raises(InputError, match="size"):
        ClipViT(tiny_clip()).preprocess(Image.new("RGB", (9, 9)), size)


def test_nearest_size():
    assert nearest_size(448, (14, 14)) == (448, 448)
    assert nearest_size(448, (15, 32)) == (450, 448)
    assert nearest_size(4, (32, 32)) == (32, 32)


@pytest.mark.parametrize(
    "variant, message",
    [
        ({"attentional_pool": "parallel"}, "kind 'parallel'"),
        ({"attentional_pool": "cascade"}, "kind 'cascade'"),
        ({"attentional_pool": True, "pool": "avg"}, "kind 'avg'"),
        ({"qk_norm": True}, "ln_q"),
        ({"scale_heads": True}, "head_scale"),
        ({"scale_attn": True}, "ln_attn"),
        ({"scale_fc": True}, "has ln"),
        ({"scaled_cosine_attn": True}, "logit_scale"),
        ({"pool": "none"}, "pool_type 'none'"),
        ({"pool": "avg", "final_ln_after_pool": False}, "norm before the pool"),
    ],
)
def test_unreadable_towers_are_refused_in_one_line(tiny_clip, variant, message):
    with pytest.raises(ModelError, match=message) as caught:
        ClipViT(tiny_clip(**variant), name="strange")
    assert "\n" not in str(caught.value) and "strange" in str(caught.value)


def test_other_things_are_refused(tiny_clip):
    with pytest.raises(ModelError, match="NoneType"):
        ClipViT(torch.nn.Linear(2, 2))
    model = tiny_clip()
    model.visual.transformer.resblocks[0].mlp.gelu = torch.nn.ReLU()
    with pytest.raises(ModelError, match="ReLU"):
        ClipViT(model)
    model = tiny_clip()
    model.visual.proj = None
    with pytest.raises(ModelError, match="projection"):
        ClipViT(model)


def test_damaged_weights_are_named(tiny_clip):
    model = tiny_clip()
    model.visual.ln_post.weight.data[3] = torch.nan
    with pytest.raises(ModelError, match=r"visual\.ln_post\.weight holds NaN"):
        ClipViT(model).check_finite()


@pytest.mark.parametrize("kind", ["gelu", "gelu_tanh", "quick_gelu", "silu"])
def test_activation_derivatives(kind):
    activation = Activation(kind)
    x = torch.linspace(-9, 9, 201, dtype=torch.float64, requires_grad=True)
    (wanted,) = torch.autograd.grad(activation(x).sum(), x)
    torch.testing.assert_close(activation.derivative(x.detach()), wanted, atol=1e-12, rtol=0)
    known = {
        "gelu": F.gelu(x), "gelu_tanh": F.gelu(x, approximate="tanh"), "silu": F.silu(x),
        "quick_gelu": x * torch.sigmoid(1.702 * x),
    }  # fmt: skip
    torch.testing.assert_close(activation(x), known[kind])


@pytest.mark.parametrize("change", ["copy_", "mul_"])
def test_weights_changed_behind_pytorchs_back_are_read_afresh(tiny_clip, change):
    """Helpers that average weights write through `.data`, which no counter shows."""
    model = tiny_clip()
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8))
    masks = np.zeros((1, 48, 48), bool)
    masks[:, :20] = True
    backbone = ClipViT(model)
    MaskInversion(backbone, size=48, steps=2)(image, masks)
    for parameter in model.parameters():
        other = torch.randn_like(parameter) * 0.1 if change == "copy_" else 1.02
        getattr(parameter.data, change)(other)
    found, wanted = (
        MaskInversion(one, size=48, steps=2)(image, masks) for one in (backbone, ClipViT(model))
    )
    assert torch.equal(found.embeddings, wanted.embeddings)


def test_pictures_are_prepared_on_the_cpu_whatever_the_default_device(tiny_clip):
    backbone = ClipViT(tiny_clip())
    picture = Image.new("RGB", (40, 40), "teal")
    wanted = backbone.preprocess(picture)
    with torch.device("meta"):
        found = backbone.preprocess(picture)
    assert torch.equal(found, wanted)
