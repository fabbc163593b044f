"""Each thing that we know of open_clip's insides, tried on open_clip: a change there fails here."""

import json

import open_clip
import pytest
import torch
from open_clip.factory import load_checkpoint
from safetensors.torch import save_file
from torch import nn

from regionlm.backbones import open_clip_insides as insides
from regionlm.backbones.blocks import Activation
from regionlm.backbones.open_clip_blocks import read_block
from regionlm.backbones.published_weights import find_weights
from regionlm.errors import ModelError

VISION = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 8}
TEXT = {"context_length": 8, "vocab_size": 30, "width": 16, "heads": 2, "layers": 1}
CONFIG = {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": TEXT}
#: What makes a CoCa of it.
COCA = {
    "custom_text": True,
    "vision_cfg": {**VISION, "attentional_pool": True, "attn_pooler_heads": 4,
                   "attn_pooler_queries": 5, "output_tokens": True},
    "text_cfg": {**TEXT, "embed_cls": True, "output_tokens": True},
    "multimodal_cfg": {**TEXT, "attn_pooler_heads": 4},
}  # fmt: skip
LISTED = open_clip.list_models()
#: Those with image towers of open_clip's own; of the others see test_listed_models.
OWN = [n for n in LISTED if "timm_model_name" not in open_clip.get_model_config(n)["vision_cfg"]]


def model(seed=0, **config):
    torch.manual_seed(seed)
    return insides.build_model({**CONFIG, **config}, "tiny").eval()


def write_weights(path, state):
    if path.suffix == ".safetensors":
        save_file(dict(state), path)
    else:
        torch.save(dict(state), path)


def test_a_folder_s_files_and_which_comes_first(tmp_path):
    """open_clip takes the first of our names that is there, as we do."""
    (tmp_path / insides.CONFIG_FILE).write_text(json.dumps({"model_cfg": CONFIG}))
    for number, file in reversed(list(enumerate(insides.WEIGHT_FILES))):
        wanted = model(number)
        write_weights(tmp_path / file, wanted.state_dict())
        found = open_clip.create_model(f"local-dir:{tmp_path}")
        assert torch.equal(found.visual.proj, wanted.visual.proj), file


@pytest.mark.parametrize("file", insides.HUB_FILES)
def test_files_of_a_hub_repository(file, tmp_path):
    from open_clip import download_pretrained

    repository = tmp_path / "models--some--model"
    (repository / "snapshots" / "a").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a")
    (repository / "snapshots" / "a" / file).write_bytes(b"")
    absent = repository / ".no_exist" / "a"
    absent.mkdir(parents=True)
    for other in set(insides.HUB_FILES) - {file}:
        (absent / other).touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        found = download_pretrained({"hf_hub": "some/model/"}, cache_dir=str(tmp_path))
    assert found.endswith(file)


def test_where_files_of_plain_addresses_are_kept(tmp_path, monkeypatch, no_network):
    from open_clip import download_pretrained_from_url

    monkeypatch.setenv("HOME", str(tmp_path))
    file = insides.URL_CACHE.expanduser() / "w.pt"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"weights")
    url = "https://example.org/some/w.pt"
    assert download_pretrained_from_url(url) == str(file)
    assert find_weights("w", {"url": url}, offline=True) == file


def test_what_published_weights_are_said_to_be():
    """Addresses, normalisation and activation of every tag, under the keys that we read."""
    tags = [(name, tag) for name, tag in open_clip.list_pretrained() if tag != "openai"]
    for name, tag in tags:
        if "vision_cfg" not in open_clip.get_model_config(name):
            continue
        told = open_clip.get_pretrained_cfg(name, tag)
        assert told.get("hf_hub") or told.get("url"), (name, tag)
        assert told.get("hf_hub", "").count("/") == 2 or not told.get("hf_hub"), (name, tag)
        assert len(told["mean"]) == len(told["std"]) == 3, (name, tag)
    assert len(tags) > 90
    assert open_clip.get_pretrained_cfg("ViT-B-32", "openai")["quick_gelu"] is True
    assert not open_clip.get_pretrained_cfg("ViT-B-32", "laion2b_s34b_b79k").get("quick_gelu")


#: Of a config of two towers, and nothing else.
KEYS = {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "custom_text", "init_logit_scale",
        "init_logit_bias", "multimodal_cfg"}  # fmt: skip


def small(config):
    """The same kind of model, quick to build."""
    if "vision_cfg" not in config:
        return config
    config["vision_cfg"] |= {"layers": 1, "width": 32, "head_width": 8, "image_size": 64}
    config["vision_cfg"] |= {"patch_size": min(config["vision_cfg"].get("patch_size", 16), 32)}
    config["text_cfg"] |= {"layers": 1, "width": 16, "heads": 2, "vocab_size": 60}
    if "multimodal_cfg" in config:
        config["multimodal_cfg"] |= {"layers": 1, "width": 16, "heads": 2}
    return {**config, "embed_dim": 16}


@pytest.mark.parametrize("name", OWN)
def test_every_listed_model_is_read_or_refused(name):
    """Refused by its config alone: exactly the models with other towers than open_clip's own ViT
    and text transformer. Of all others every part is found, or the one that differs is named."""
    config = open_clip.get_model_config(name)
    vision, text = config.get("vision_cfg", {}), config["text_cfg"]
    plain = config.keys() <= KEYS and isinstance(vision.get("layers"), int)
    plain = plain and "hf_model_name" not in text and "text_arch" not in text
    torch.manual_seed(0)
    try:
        insides.refuse_unreadable(config, name, offline=True)
        built = insides.build_model(small(config), name).eval()
    except ModelError as error:
        assert name in str(error) and "\n" not in str(error) and not plain
        return
    assert plain
    try:
        tower = insides.ImageTower(built.visual, name)
    except ModelError as error:
        assert name in str(error) and "\n" not in str(error)
        assert vision.get("pool_type") in ("none", "avg")
        return
    quick = config.get("quick_gelu", False)
    exact = "gelu_tanh" if vision.get("act_kwargs") else "gelu"
    assert tower.blocks()[-1].activation.kind == ("quick_gelu" if quick else exact)
    pooled = vision.get("attentional_pool", False)
    assert (tower.pooling == "attention") == pooled
    assert tower.image_size == (64, 64) and len(tower.blocks()) == 1
    assert insides.text_tokens(built) == 60


def test_models_are_built_as_open_clip_builds_them(tmp_path):
    """The class, by the keys of the config that choose it, and the activation."""
    for extra in ({}, {"custom_text": True}, {"quick_gelu": True}, COCA):
        config = {**CONFIG, **extra}
        (tmp_path / insides.CONFIG_FILE).write_text(json.dumps({"model_cfg": config}))
        theirs = open_clip.create_model(f"local-dir:{tmp_path}", load_weights=False).eval()
        ours = model(**extra)
        assert type(ours) is type(theirs)
        ours.load_state_dict(theirs.state_dict())
        pixels, tokens = torch.randn(1, 3, 32, 32), torch.arange(8)[None]
        with torch.no_grad():
            assert torch.equal(ours.encode_image(pixels), theirs.encode_image(pixels))
            assert torch.equal(ours.encode_text(tokens), theirs.encode_text(tokens))
            assert torch.equal(ours.logit_scale, theirs.logit_scale)
        assert config == {**CONFIG, **extra}  # open_clip takes keys out of its config


def test_the_parts_of_a_tower():
    built = model()
    visual, tower = built.visual, insides.ImageTower(built.visual, "tiny")
    head = tower.head()
    shapes = [tower.patch_weight, tower.prefix_tokens(), tower.positions(), head.proj]
    assert [tuple(x.shape) for x in shapes] == [(32, 3, 8, 8), (1, 32), (17, 32), (32, 16)]
    assert (tower.patch_size, tower.image_size, tower.grid) == ((8, 8), (32, 32), (4, 4))
    assert tower.norm_before() is not None
    assert insides.ImageTower(model(vision_cfg={**VISION, "no_ln_pre": True}).visual, "x")\
        .norm_before() is None  # fmt: skip
    told = {"mean": (1, 2, 3), "std": (4, 5, 6)}
    open_clip.set_model_preprocess_cfg(built, told)
    assert tower.preprocess == told and tower.module is visual


@pytest.mark.parametrize("kind", ["gelu", "gelu_tanh", "quick_gelu"])
def test_an_activation_is_put_where_the_model_itself_uses_it(kind):
    """open_clip's own forward computes with it, in every block."""
    built = model()
    pixels = torch.randn(2, 3, 32, 32)
    used, activation = [], Activation(kind)
    insides.set_activation(built.visual, kind)
    for block in built.visual.transformer.resblocks:
        block.mlp.gelu.register_forward_hook(
            lambda module, args, out: used.append(torch.equal(out, activation(args[0])))
        )
    with torch.no_grad():
        built.encode_image(pixels)
    assert used == [True, True]
    blocks = insides.ImageTower(built.visual, "tiny").blocks()
    assert [block.activation.kind for block in blocks] == [kind, kind]
    assert built.state_dict().keys() == model().state_dict().keys()


def attention(**options):
    return nn.MultiheadAttention(32, 4, batch_first=True, **options)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"kdim": 16}, "in_proj_weight"),
        ({"vdim": 16}, "in_proj_weight"),
        ({"add_bias_kv": True}, "bias_k"),
        ({"add_zero_attn": True}, "add_zero_attn"),
    ],
)
def test_attention_of_other_kinds_is_refused(options, message):
    block = model().visual.transformer.resblocks[0]
    read_block(block)
    block.attn = attention(**options)
    with pytest.raises(ModelError, match=message) as caught:
        read_block(block)
    assert "\n" not in str(caught.value)


def test_attention_without_biases():
    block = model().visual.transformer.resblocks[0]
    block.attn = attention(bias=False)
    read = read_block(block)
    assert read.qkv_bias is None and read.out_bias is None


def test_older_layouts_of_checkpoints(tmp_path):
    """As open_clip's own loader reads them."""
    plain, scale = model(1).state_dict(), torch.tensor([2.0])
    ids = {"text.transformer.embeddings.position_ids": torch.arange(8)}
    for extra in ({}, {"logit_scale": scale}, ids):
        for custom in (False, True):
            state = {**plain, **extra}
            if not custom and extra is ids:
                continue
            theirs, ours = (model(2, **({"custom_text": True} if custom else {})) for _ in "ab")
            torch.save(state, tmp_path / "w.pt")
            load_checkpoint(theirs, str(tmp_path / "w.pt"))
            ours.load_state_dict(insides.in_layout_of(ours.state_dict(), state), strict=True)
            for name, value in theirs.state_dict().items():
                assert torch.equal(value, ours.state_dict()[name]), name


def test_open_clip_s_own_tokenizer_is_of_the_size_that_we_take_it_for():
    own = open_clip.SimpleTokenizer()
    assert (own.vocab_size, own.context_length) == (insides.OWN_TOKENS, insides.DEFAULT_CONTEXT)
    texts = open_clip.CLIPTextCfg()
    assert (texts.vocab_size, texts.context_length) == (insides.OWN_TOKENS, insides.DEFAULT_CONTEXT)


def test_keys_of_tokenizers_are_those_of_listed_models():
    listed = [open_clip.get_model_config(name)["text_cfg"] for name in LISTED]
    assert any(insides.TOKENIZER_NAME in text for text in listed)
    assert any("tokenizer_kwargs" in text for text in listed)
    assert {k for text in listed for k in text if k.startswith("tokenizer_")} <= {
        *insides.TOKENIZER_OPTIONS, "tokenizer_type"
    }  # fmt: skip
