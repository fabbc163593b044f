"""A transformers CLIPModel's folder as a backbone, against transformers itself."""

import json
import shutil

import open_clip
import pytest
import torch
import torch.nn.functional as F
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer, CLIPConfig, CLIPModel, CLIPTokenizerFast

from regionlm.backbones import load_backbone
from regionlm.backbones.saving import save_backbone
from regionlm.errors import ModelError

START, END = "<|startoftext|>", "<|endoftext|>"
TEXTS = ["a dog", "dog", "a dog, a dog and a dog that is too long", "Don't!"]
CONTEXT = 12


def tokenizer() -> CLIPTokenizerFast:
    signs = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*signs, *(f"{sign}</w>" for sign in signs), "do", "dog</w>", START, END]
    vocabulary = {word: number for number, word in enumerate(words)}
    return CLIPTokenizerFast(vocab=vocabulary, merges=[("d", "o"), ("do", "g</w>")])


def model(activation: str = "quick_gelu", eps: float = 1e-5, **text: int) -> CLIPModel:
    shared = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_act": activation,
              "layer_norm_eps": eps, "initializer_range": 0.3}  # fmt: skip
    rows = len(tokenizer())
    config = CLIPConfig(
        text_config={"hidden_size": 24, "intermediate_size": 50, "vocab_size": rows,
                     "max_position_embeddings": CONTEXT, "bos_token_id": rows - 2,
                     "eos_token_id": rows - 1, **shared, **text},
        vision_config={"hidden_size": 32, "intermediate_size": 70, "image_size": 32,
                       "patch_size": 8, **shared},
        projection_dim=16,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = CLIPModel(config).eval()
        for part in found.parameters():  # biases and norms start at 0 and 1
            part.data += 0.05 * torch.randn_like(part)
    return found


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "clip", model())
    return tmp_path / "clip"


def write(folder, clip, **options) -> None:
    clip.save_pretrained(folder, **options)
    tokenizer().save_pretrained(folder)


def check_same(folder, clip) -> None:
    """Both towers, as the model itself puts them together: unit vectors, and their cosines."""
    backbone = load_backbone(str(folder), device="cpu")
    pixels = torch.randn(3, 3, 32, 32)
    words = AutoTokenizer.from_pretrained(folder)(
        TEXTS, padding="max_length", max_length=CONTEXT, truncation=True, return_tensors="pt"
    )
    with torch.no_grad():
        wanted = clip(input_ids=words["input_ids"], pixel_values=pixels)
    images, texts = backbone.embed_images(pixels), backbone.embed_texts(TEXTS)
    near = {"atol": 1e-5, "rtol": 1e-5}
    torch.testing.assert_close(F.normalize(images), wanted.image_embeds, **near)
    torch.testing.assert_close(F.normalize(texts), wanted.text_embeds, **near)
    assert backbone.logit_scale == pytest.approx(float(clip.logit_scale.detach().exp()))
    spread = (wanted.text_embeds - wanted.text_embeds[:1]).abs().amax(1)
    assert (spread[1:] > 1e-2).all()  # so that equal means something
    torch.testing.assert_close(images.norm(dim=1), _norms(clip, pixels), **near)


def _norms(clip, pixels):
    with torch.no_grad():
        pooled = clip.vision_model(pixels).pooler_output
        return clip.visual_projection(pooled).norm(dim=1)


@pytest.mark.parametrize("eps", [1e-5, 1e-2])
@pytest.mark.parametrize("activation", ["quick_gelu", "gelu", "gelu_pytorch_tanh"])
def test_embeds_images_and_texts_as_transformers(tmp_path, activation, eps):
    clip = model(activation, eps)
    write(tmp_path, clip)
    check_same(tmp_path, clip)


def test_old_configs_name_no_end_and_mean_the_highest_token(tmp_path):
    clip = model(eos_token_id=2)
    write(tmp_path, clip)
    check_same(tmp_path, clip)


def test_pickled_and_sharded_weights(tmp_path):
    clip = model()
    write(tmp_path / "sharded", clip, max_shard_size="20KB")
    assert len(list((tmp_path / "sharded").glob("model-*.safetensors"))) > 2
    check_same(tmp_path / "sharded", clip)
    write(tmp_path / "pickled", clip)
    (tmp_path / "pickled" / "model.safetensors").unlink()
    torch.save(clip.state_dict(), tmp_path / "pickled" / "pytorch_model.bin")
    check_same(tmp_path / "pickled", clip)


def test_preprocessing_is_the_folders(folder):
    assert load_backbone(str(folder), device="cpu").mean[0] == pytest.approx(0.48145466)
    settings = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.6, 0.7], "do_resize": True}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    backbone = load_backbone(str(folder), device="cpu")
    assert (backbone.mean, backbone.std) == ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7))


def test_saved_as_open_clip_it_is_the_same(folder, tmp_path):
    backbone = load_backbone(str(folder), device="cpu")
    save_backbone(backbone, tmp_path / "saved")
    again = load_backbone(str(tmp_path / "saved"), device="cpu")
    assert torch.equal(backbone.embed_texts(TEXTS), again.embed_texts(TEXTS))
    pixels = torch.randn(1, 3, 32, 32)
    assert torch.equal(backbone.embed_images(pixels), again.embed_images(pixels))


def test_with_openais_vocabulary_texts_are_open_clips(tmp_path):
    clip = model(vocab_size=49408, bos_token_id=49406, eos_token_id=49407)
    clip.save_pretrained(tmp_path)
    own = open_clip.SimpleTokenizer(context_length=CONTEXT)
    backbone = load_backbone(str(tmp_path), device="cpu")
    assert torch.equal(backbone.tokenizer(TEXTS), own(TEXTS))
    words = [*own.encoder]
    tokens = CLIPTokenizerFast(
        vocab={word: number for number, word in enumerate([*words[:-2], START, END])},
        merges=[tuple(pair) for pair in own.bpe_ranks],
    )
    tokens.save_pretrained(tmp_path)
    backbone = load_backbone(str(tmp_path), device="cpu")
    assert isinstance(backbone.tokenizer, open_clip.SimpleTokenizer)
    ids = tokens(TEXTS[:2])["input_ids"]
    assert [row[: len(one)].tolist() for row, one in zip(own(TEXTS[:2]), ids, strict=True)] == ids


def refused(message, folder):
    with pytest.raises(ModelError, match=message) as caught:
        load_backbone(str(folder), device="cpu")
    assert "\n" not in str(caught.value)


def test_incomplete_and_damaged_folders(folder, tmp_path):
    weights = folder / "model.safetensors"
    shutil.copytree(folder, tmp_path / "other")
    (tmp_path / "other" / "tokenizer.json").unlink()
    refused("lacks tokenizer.json", tmp_path / "other")
    data = weights.read_bytes()
    weights.write_bytes(data[:-10])
    refused("truncated", folder)
    weights.unlink()
    refused("lacks weights; put model.safetensors there", folder)
    (folder / "model.safetensors.index.json").write_text("{}")
    refused("expected JSON with a weight_map", folder)
    (folder / "preprocessor_config.json").write_text("[")
    weights.write_bytes(data)
    refused("expected JSON with image_mean and image_std", folder)


def test_models_that_open_clip_would_compute_otherwise(tmp_path):
    clip = model()
    clip.config.text_config.hidden_act = "gelu"
    write(tmp_path / "mixed", clip)
    refused("in both towers, found quick_gelu and gelu", tmp_path / "mixed")
    write(tmp_path / "relu", model("relu"))
    refused("one of quick_gelu, gelu, gelu_pytorch_tanh.*take a plain ViT", tmp_path / "relu")
    write(tmp_path / "end", model(eos_token_id=7))
    refused("texts that end with the tokenizer's highest token, .* config.json with 7",
            tmp_path / "end")  # fmt: skip


def test_weights_of_another_size(folder):
    model(intermediate_size=60).save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["intermediate_size"] = 50
    (folder / "config.json").write_text(json.dumps(config))
    refused("differ in size from", folder)
