"""Weight files: in which wrappings state dicts are read, and what is refused."""

import pickle
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from regionlm.backbones import ClipViT, load_backbone
from regionlm.backbones.state_dicts import load_weights
from tests.regionlm.backbones.tiny_open_clip import CONFIG, refused


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (Path.touch, (self.marker,))


WRAPPINGS = {
    "bare": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3, "optimizer": {}},
    "model_state_dict": lambda state: {"model_state_dict": state, "epoch": 3},
    "model": lambda state: {"model": state, "ema": state},
    "DataParallel": lambda state: {"model": {f"module.{k}": v for k, v in state.items()}},
    "compiled": lambda state: {f"_orig_mod.{k}": v for k, v in state.items()},
    "compiled in part": lambda state: {
        k.replace("visual.", "visual._orig_mod."): v for k, v in state.items()
    },
    "Lightning": lambda state: {"state_dict": {f"model.{k}": v for k, v in state.items()}},
    "Lightning, compiled, in parallel": lambda state: {
        "state_dict": {f"model._orig_mod.module.{k}": v for k, v in state.items()}
    },
    "Lightning with a loss": lambda state: {
        "state_dict": {**{f"clip.{k}": v for k, v in state.items()}, "loss.scale": torch.ones(1)}
    },
    "state dict of OpenAI's archive": lambda state: {
        **state,
        "input_resolution": torch.tensor(32),
        "context_length": torch.tensor(6),
        "vocab_size": torch.tensor(49408),
    },
    "state dict of a scripted model": lambda state: {**state, "attn_mask": torch.zeros(6, 6)},
}


@pytest.mark.parametrize("case", WRAPPINGS)
def test_wrappings_of_a_state_dict(named, tmp_path, case):
    torch.save(WRAPPINGS[case](named.state_dict()), tmp_path / "w.pt")
    backbone = load_backbone(
        "ViT-tiny-8", pretrained=str(tmp_path / "w.pt"), device="cpu", quick_gelu=False
    )
    found, wanted = backbone.model.state_dict(), named.state_dict()
    assert found.keys() == wanted.keys() and all(torch.equal(found[k], wanted[k]) for k in wanted)


def test_a_file_of_several_models_is_refused(named, tmp_path):
    state = named.state_dict()
    both = {f"{part}.{k}": v for part in ("student", "teacher") for k, v in state.items()}
    torch.save({"state_dict": both}, tmp_path / "w.pt")
    refused(r"found several, under student\., teacher\.; save the state dict of one",
            "ViT-tiny-8", pretrained=str(tmp_path / "w.pt"))  # fmt: skip
    torch.save({**state, **{f"_orig_mod.{k}": v for k, v in state.items()}}, tmp_path / "w.pt")
    refused("do not fit|found several", "ViT-tiny-8", pretrained=str(tmp_path / "w.pt"))


def test_what_else_is_in_a_checkpoint_is_named(named, tmp_path):
    torch.save({"generator": named.state_dict(), "step": 3}, tmp_path / "w.pt")
    refused("under generator, step: save", "ViT-tiny-8", pretrained=str(tmp_path / "w.pt"))


def test_pickles_with_code_are_refused_and_not_run(named, tmp_path):
    marker = tmp_path / "ran"
    for name in ("zip.pt", "plain.pt"):
        path = tmp_path / name
        if name == "zip.pt":
            torch.save({"a": Evil(marker)}, path)
        else:
            path.write_bytes(pickle.dumps(Evil(marker)))
        refused(r"holds \w+\.\w+.* \(it was not executed\)", "ViT-tiny-8", pretrained=str(path))
    assert not marker.exists()


def test_broken_checkpoints(named, tmp_path):
    path = tmp_path / "weights.pt"
    torch.save(named.state_dict(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused("truncated|damaged", "ViT-tiny-8", pretrained=str(path))
    path.write_bytes(b"")
    refused("empty", "ViT-tiny-8", pretrained=str(path))
    path.write_bytes(b"not a checkpoint at all")
    refused("truncated|damaged", "ViT-tiny-8", pretrained=str(path))
    refused("no such file", "ViT-tiny-8", pretrained=str(tmp_path))
    torch.save([torch.zeros(1)], path)
    refused("state dict", "ViT-tiny-8", pretrained=str(path))


def test_weights_of_another_model(named, tmp_path):
    path = tmp_path / "weights.safetensors"
    state = dict(named.state_dict())
    save_file({**state, "visual.proj": torch.zeros(64, 16)}, path)
    refused(
        r"visual.proj is \[64, 16\] in the file, \[32, 16\]", "ViT-tiny-8", pretrained=str(path)
    )
    del state["visual.ln_post.weight"]
    save_file(state, path)
    refused("ln_post.weight is missing", "ViT-tiny-8", pretrained=str(path))
    save_file({**named.state_dict(), "extra": torch.zeros(1)}, path)
    refused("extra is unknown", "ViT-tiny-8", pretrained=str(path))


def test_text_weights_move_to_a_custom_text_tower(named):
    model = open_clip.CustomTextCLIP(**{**CONFIG, "text_cfg": dict(CONFIG["text_cfg"])})
    plain = open_clip.CLIP(**CONFIG)
    load_weights(model, plain.state_dict(), what="file", name="model")
    torch.testing.assert_close(model.text.token_embedding.weight, plain.token_embedding.weight)
    assert ClipViT(model).dim == 16
