"""MetaCLIP 2 of transformers, which reads a text's first end token, against transformers."""

import json

import open_clip
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import MetaClip2Config, MetaClip2Model, PreTrainedTokenizerFast

from regionlm.backbones import load_backbone
from regionlm.backbones.saving import save_backbone
from regionlm.errors import ModelError

WORDS = ["<s>", "<pad>", "</s>", "<unk>", "a", "dog", "cat", "and"]  # the end isn't the highest
TEXTS = ["a dog", "cat and dog", "a cat " * 9]
CONTEXT = 8
KNOWS_END = "ViT-H-14-worldwide" in open_clip.list_models()  # MetaCLIP 2's own
needs_end = pytest.mark.skipif(not KNOWS_END, reason="open_clip 3.0 pools at the highest token")


def tokenizer():
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, "<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<s>", pad_token="<pad>", eos_token="</s>"
    )


@pytest.fixture
def metaclip(tmp_path):
    """A random model, and its folder."""
    shared = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 32,
              "intermediate_size": 70, "hidden_act": "quick_gelu"}  # fmt: skip
    text = {"vocab_size": len(WORDS), "max_position_embeddings": CONTEXT, "pad_token_id": 1,
            "bos_token_id": 0, "eos_token_id": 2}  # fmt: skip
    config = MetaClip2Config(
        text_config={**shared, **text},
        vision_config={**shared, "image_size": 32, "patch_size": 8},
        projection_dim=16,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MetaClip2Model(config).eval()
        for part in model.parameters():
            part.data += 0.2 * torch.randn_like(part)
    model.save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    return model, tmp_path


@needs_end
def test_embeds_images_and_texts_as_transformers(metaclip):
    model, folder = metaclip
    backbone = load_backbone(str(folder), device="cpu")
    words = tokenizer()(
        TEXTS, padding="max_length", max_length=CONTEXT, truncation=True, return_tensors="pt"
    )
    pixels = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        wanted = model(input_ids=words["input_ids"], pixel_values=pixels)
    unit = torch.nn.functional.normalize
    images, texts = unit(backbone.embed_images(pixels)), unit(backbone.embed_texts(TEXTS))
    torch.testing.assert_close(images, wanted.image_embeds, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(texts, wanted.text_embeds, atol=1e-5, rtol=1e-5)


@needs_end
def test_saved_as_open_clip_it_is_the_same(metaclip, tmp_path):
    backbone = load_backbone(str(metaclip[1]), device="cpu")
    save_backbone(backbone, tmp_path / "saved")
    again = load_backbone(str(tmp_path / "saved"), device="cpu")
    assert torch.equal(backbone.embed_texts(TEXTS), again.embed_texts(TEXTS))


def test_another_models_tokenizer_is_refused(metaclip):
    folder = metaclip[1]
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["eos_token_id"] = 7
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"end with the token 7, .* ends them with 2") as caught:
        load_backbone(str(folder), device="cpu")
    assert "\n" not in str(caught.value)
