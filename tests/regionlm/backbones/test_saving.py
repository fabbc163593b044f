"""A saved backbone is the same model for us and for open_clip's own loader, texts included."""

import json
import shutil

import open_clip
import pytest
import torch

from regionlm.backbones import ClipViT, load_backbone
from regionlm.backbones.loading import build_model
from regionlm.backbones.open_clip_insides import get_tokenizer
from regionlm.backbones.saving import save_backbone
from regionlm.backbones.text_tokenizers import FileTokenizer, folder_tokenizer
from regionlm.errors import ModelError
from regionlm.pretrained.bundle import MINI

TEXTS = [
    "a red fox on the snow, an OWL",
    "It\u2019s \u201cone\u201d &amp; \ufb01sh_two",
    "<s> [PAD] <pad> </s> [SEP] <end>",
    "dog " * 99,
    "",
]
VISION = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 1, "head_width": 8}
TEXT = {"context_length": 12, "vocab_size": 600, "width": 16, "heads": 2, "layers": 1}


def backbone(tokenizer, **text):
    config = {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": {**TEXT, **text}}
    torch.manual_seed(0)
    return ClipViT(build_model(config, "tiny").eval(), tokenizer=tokenizer, config=config)


def assert_same(saved, folder):
    """Ids and vectors of the backbone, of the folder read by us, and of it read by open_clip."""
    loaded = load_backbone(str(folder), device="cpu", offline=True)
    theirs = get_tokenizer(f"local-dir:{folder}")
    wanted = saved.tokenizer(TEXTS)
    assert torch.equal(loaded.tokenizer(TEXTS), wanted) and torch.equal(theirs(TEXTS), wanted)
    model = open_clip.create_model(f"local-dir:{folder}").eval()
    vectors = saved.embed_texts(TEXTS)
    torch.testing.assert_close(loaded.embed_texts(TEXTS), vectors)
    with torch.no_grad():
        torch.testing.assert_close(model.encode_text(theirs(TEXTS)), vectors)
    pixels = torch.randn(1, 3, *saved.default_size)
    with torch.no_grad():
        wanted = model.encode_image(pixels)
    torch.testing.assert_close(loaded.embed_images(pixels), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "name",
    ["ViT-H-14-CLIPA", "ViT-B-16-SigLIP", "ViT-B-16-SigLIP2", "xlm-roberta-base-ViT-B-32",
     "roberta-ViT-B-32", "nllb-clip-base"],
)  # fmt: skip
def test_named_tokenizers(name, model_folder, tmp_path, no_network):
    listed = open_clip.get_model_config(name)["text_cfg"]
    told = {k: listed[k] for k in ("hf_tokenizer_name", "tokenizer_kwargs") if k in listed}
    text = {**TEXT, **told}
    given = model_folder(tmp_path / "given", {"text_cfg": text})
    saved = backbone(folder_tokenizer(given, text), **told)
    before = json.dumps(saved.config)
    save_backbone(saved, tmp_path / "saved")
    assert json.dumps(saved.config) == before
    assert_same(saved, tmp_path / "saved")


@pytest.mark.parametrize("options", [{}, {"clean": "canonicalize"}])
def test_open_clip_s_own_tokenizer(options, tmp_path):
    own = open_clip.SimpleTokenizer(context_length=12, **options)
    saved = backbone(own, vocab_size=49408, **({"tokenizer_kwargs": options} if options else {}))
    save_backbone(saved, tmp_path / "saved")
    assert not list((tmp_path / "saved").glob("tokenizer*"))
    assert_same(saved, tmp_path / "saved")


def test_the_bundled_model(tmp_path, no_network):
    mini = load_backbone(str(MINI / "backbone"), device="cpu")
    save_backbone(mini, tmp_path / "saved")
    assert_same(mini, tmp_path / "saved")
    for file in (MINI / "backbone").iterdir():
        assert (tmp_path / "saved" / file.name).read_bytes() == file.read_bytes()


@pytest.mark.parametrize("pad", [0, 1, 107])
def test_a_folder_that_named_no_tokenizer_is_saved_with_a_name(tmp_path, pad):
    old = tmp_path / "old"
    shutil.copytree(MINI / "backbone", old)
    (old / "tokenizer_config.json").unlink()
    config = json.loads((old / "open_clip_config.json").read_text())
    del config["model_cfg"]["text_cfg"]["hf_tokenizer_name"]
    config["model_cfg"]["text_cfg"]["pad_id"] = pad
    (old / "open_clip_config.json").write_text(json.dumps(config))
    loaded = load_backbone(str(old), device="cpu")
    assert loaded.tokenizer(["a dog"])[0, -1] == pad
    save_backbone(loaded, tmp_path / "saved")
    assert_same(loaded, tmp_path / "saved")


def test_padding_that_is_no_token_can_not_be_named(tmp_path):
    """open_clip can't read such a folder either way; we still can."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({"a": 1, "<unk>": 2}, "<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.save(str(tmp_path / "tokenizer.json"))
    own = FileTokenizer(tmp_path / "tokenizer.json", context=12, vocabulary=600)
    saved = backbone(own)
    save_backbone(saved, tmp_path / "saved")
    loaded = load_backbone(str(tmp_path / "saved"), device="cpu")
    assert torch.equal(loaded.tokenizer(["a b"]), own(["a b"]))
    assert own(["a b"])[0].tolist() == [1, 2] + 10 * [0]


@pytest.mark.parametrize("text", [
    {},  # the cleaning is not in the config
    {"tokenizer_kwargs": {"clean": "canonicalize"}, "context_length": 13},
    {"tokenizer_kwargs": {"clean": "canonicalize"}, "hf_tokenizer_name": "bert-base-uncased"},
])  # fmt: skip
def test_a_tokenizer_that_the_config_does_not_describe(tmp_path, text):
    own = open_clip.SimpleTokenizer(context_length=12, clean="canonicalize")
    with pytest.raises(ModelError, match="expected the tokenizer that its open_clip") as caught:
        save_backbone(backbone(own, vocab_size=49408, **text), tmp_path / "saved")
    assert "\n" not in str(caught.value) and not (tmp_path / "saved").exists()


def test_tokenizers_that_no_folder_holds(tmp_path):
    for tokenizer in (None, lambda texts: torch.zeros(len(texts), 12, dtype=torch.long)):
        with pytest.raises(ModelError, match="tokenizer that can be saved"):
            save_backbone(backbone(tokenizer), tmp_path / "saved")
    with pytest.raises(ModelError, match="without its open_clip config"):
        save_backbone(ClipViT(backbone(None).model), tmp_path / "saved")
    assert not (tmp_path / "saved").exists()
