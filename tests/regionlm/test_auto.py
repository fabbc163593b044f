"""Any model by name."""

import pytest

from regionlm.auto import load_captioner, load_encoder
from regionlm.backbones.trunk_options import AS_USUAL, TrunkOptions
from regionlm.captioner import RegionCaptioner
from regionlm.errors import InputError, ModelError


def test_a_bundle_by_name():
    captioner = load_captioner("mini", prefix="zero-shot", device="cpu", offline=True)
    assert type(captioner) is RegionCaptioner and captioner.name == "mini"
    assert captioner.prefix_model.prefix_name == "zero-shot"


@pytest.mark.parametrize("name", ["mini", "clipcap-coco"])
def test_only_a_llava_is_asked(name):
    with pytest.raises(InputError, match=f"prompt: only a LLaVA takes one, which {name} is not"):
        load_captioner(name, prompt="What is it?", offline=True)


def test_a_name_of_nothing():
    with pytest.raises(ModelError, match="unknown model 'nothing': expected mini, clipcap-coco"):
        load_captioner("nothing", offline=True)


@pytest.mark.parametrize("load", [load_captioner, load_encoder])
def test_the_trunk_is_as_asked_for_or_refused_before_anything_else(load):
    half = TrunkOptions(precision="bfloat16")
    assert load("mini", trunk=half, device="cpu").backbone.trunk_options == half
    assert load("mini", device="cpu").backbone.trunk_options == AS_USUAL
    with pytest.raises(InputError, match="precision: expected float32 or bfloat16 on a CPU"):
        load("nothing", trunk=TrunkOptions(precision="float16"), device="cpu")
