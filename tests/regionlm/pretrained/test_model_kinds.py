"""Models of other kinds are told what they are and what runs, in one line."""

import json

import pytest

from regionlm import ModelError, RegionCaptioner
from regionlm.auto import load_captioner
from regionlm.cli.main import main
from regionlm.pretrained.backbones import read_backbone
from regionlm.pretrained.model_kinds import is_llava

LLAVA, NO_SPACE = "take LLaVA 1.5", "no space to match or embed in"
# What a config.json says -> what is said to who wants captions, and to who wants embeddings.
OTHERS = {
    "next": ({"model_type": "llava_next", "vision_config": {}}, "is LLaVA-NeXT", LLAVA, NO_SPACE),
    "onevision": ({"model_type": "llava_onevision"}, "is LLaVA-OneVision", LLAVA, NO_SPACE),
    "smolvlm": ({"model_type": "smolvlm"}, "is SmolVLM", LLAVA, NO_SPACE),
    "idefics3": ({"model_type": "idefics3"}, "is Idefics3", LLAVA, NO_SPACE),
    "paligemma": ({"model_type": "paligemma"}, "is PaliGemma", LLAVA, NO_SPACE),
    "qwen": ({"model_type": "qwen2_vl"}, r"is Qwen2-VL \(model_type qwen2_vl\)", LLAVA, NO_SPACE),
    "new": (
        {"model_type": "vlm9", "architectures": ["Vlm9ForAnything"], "vision_config": {}},
        "is Vlm9ForAnything", LLAVA, NO_SPACE,
    ),
    "language model": (
        {"model_type": "llama", "architectures": ["LlamaForCausalLM"]},
        "is LlamaForCausalLM", "reads no images.*regionlm train fit", "reads no images",
    ),
    "altclip": (
        {"model_type": "altclip", "architectures": ["AltCLIPModel"], "vision_config": {}},
        "is AltCLIPModel", "not a CLIP that can be read", "take OpenAI's or OpenCLIP's",
    ),
    "no classes": ({"model_type": "bert", "architectures": None}, "is a model of transformers",
                   "reads no images", "reads no images"),
}  # fmt: skip
ORIGINAL = {
    "architectures": ["LlavaLlamaForCausalLM"], "model_type": "llava", "hidden_size": 4096,
    "mm_vision_tower": "openai/clip-vit-large-patch14-336", "image_grid_pinpoints": None,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    def write(config):
        (tmp_path / "config.json").write_text(json.dumps(config))
        return tmp_path

    return write


def refused(message, load, *args, **options):
    with pytest.raises(ModelError, match=message) as caught:
        load(*args, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("case", OTHERS)
def test_other_models(folder, case):
    config, name, captions, embeddings = OTHERS[case]
    source = folder(config)
    for load in (load_captioner, RegionCaptioner.from_pretrained):
        refused(f"{source}: {name}.*{captions}", load, source)
    refused(f"{name}.*{embeddings}", read_backbone, source, device="cpu", offline=True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, r"format \(LlavaLlamaForCausalLM\).*take LLaVA 1.5.*llava-hf/llava-1.5-7b-hf$"),
        ({"hidden_size": 5120}, "llava-hf/llava-1.5-13b-hf$"),
        ({"model_type": "llava_llama"}, "a LLaVA in its authors' format"),
        ({"model_type": "llava_mistral", "architectures": ["LlavaMistralForCausalLM"]}, "authors"),
        ({"architectures": None}, "mm_vision_tower in config.json"),
        ({"image_grid_pinpoints": [[336, 672]]}, "is a LLaVA newer than 1.5 in its authors'"),
    ],
)
def test_llava_in_its_authors_format(folder, changes, said):
    source = folder({**ORIGINAL, **changes})
    assert not is_llava(source)
    refused(said, load_captioner, source)
    refused(NO_SPACE, read_backbone, source, device="cpu", offline=True)


def test_a_clip_writes_no_captions(folder):
    refused(
        "is transformers' CLIPModel, which writes no captions; use it with match, embed or explain",
        load_captioner, folder({"model_type": "clip"}),
    )  # fmt: skip
    for kind, name in (("siglip2", "Siglip2Model"), ("metaclip_2", "MetaClip2Model")):
        refused(
            f"is transformers' {name}, which writes", load_captioner, folder({"model_type": kind})
        )
    refused("is a CLIP of open_clip's, which writes no captions", load_captioner, "ViT-B-32")
    refused("use it with match, embed or explain", load_captioner, "ViT-B-32/openai")


def test_on_the_command_line(folder, capsys):
    source = folder({"model_type": "llava_next", "vision_config": {}})
    code = main(["caption", "examples/sand.png", "--box", "0,0,9,9", "--model", str(source)])
    said = capsys.readouterr().err
    assert code == 2 and said.count("\n") == 1
    assert "is LLaVA-NeXT (model_type llava_next), which can't caption regions here" in said


@pytest.mark.parametrize("text", ["[]", "{", '{"format": "somebody/else", "model_type": "x"}'])
def test_what_transformers_did_not_write_is_not_named(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    refused("does not describe a bundle|not valid JSON", load_captioner, tmp_path)


def test_an_open_clip_model_writes_no_captions():
    from regionlm.pretrained.bundle import MINI

    for load in (load_captioner, RegionCaptioner.from_pretrained):
        refused("is an open_clip model, which writes no captions", load, MINI / "backbone")
