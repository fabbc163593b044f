"""Adapters of every kind and origin: what is read again is what was in memory, or it is refused."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM

from prefix_models import (
    ClipCap,
    ClipCapConfig,
    PrefixModel,
    PrefixModelError,
    ProjectorConfig,
    ProjectorModel,
    load_prefix_model,
)
from prefix_models.lm.adapters import adapter_state, is_adapted, plain_state
from tests.prefix_models.kinds import DIM
from tests.prefix_models.lm.adapted import (
    CASES,
    TOKENIZER,
    adapter_folder,
    everything,
    injected,
    plain,
    scores,
    settings,
    trained,
    unchanged,
    wrapped,
)

EMBEDDINGS = 3 * torch.randn(3, DIM, generator=torch.Generator().manual_seed(1))
KINDS = ["gpt2", "llama"]
WAYS = {"wrapped": wrapped, "injected": injected}


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def clipcap(lm: Any) -> ClipCap:
    return ClipCap(lm, TOKENIZER, ClipCapConfig(DIM, prefix_length=2, mapper="linear")).eval()


def projector(lm: Any) -> ProjectorModel:
    return ProjectorModel(lm, TOKENIZER, ProjectorConfig(DIM, tokens_per_region=2)).eval()


def check_the_same(found: PrefixModel, wanted: PrefixModel) -> None:
    torch.testing.assert_close(scores(found.lm), scores(wanted.lm), atol=1e-5, rtol=0)
    texts = [
        [one.token_ids for one in model.generate(EMBEDDINGS, max_new_tokens=8)]
        for model in (found, wanted)
    ]
    assert texts[0] == texts[1]


# --- what is written is what is read


@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.parametrize("case", list(CASES))
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore::UserWarning")  # where peft makes them
def test_every_kind_of_lora_is_read_as_it_was_written(
    kind: str, case: str, way: str, tmp_path: Path
) -> None:
    base = plain(kind)
    bare = {name: value.clone() for name, value in base.state_dict().items()}
    bare_scores = scores(base)
    lm = WAYS[way](kind, "mine", base, **CASES[case])
    assert (scores(lm) - bare_scores).abs().max() > 0.1
    model, before = clipcap(lm), everything(lm)
    state = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.save_pretrained(tmp_path / "m")
        loaded = load_prefix_model(tmp_path / "m")
    assert torch.equal(torch.get_rng_state(), state)
    assert unchanged(lm, before)
    check_the_same(loaded, model)
    trainable = {name for name, value in loaded.lm.named_parameters() if value.requires_grad}
    assert trainable, "adapters must be ready for more training"
    # What lies beside the adapters is the language model as it was.
    stored = AutoModelForCausalLM.from_pretrained(tmp_path / "m/language_model").state_dict()
    assert stored.keys() == bare.keys()
    if case not in ("biases", "pissa"):  # those change the weights themselves
        assert all(stored[name].equal(value) for name, value in bare.items())


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.parametrize("kind", KINDS)
def test_tied_embeddings_and_half_precision(
    kind: str, way: str, tied: bool, tmp_path: Path
) -> None:
    base = plain(kind, tied=tied)
    for parameter in base.parameters():  # but not buffers, as transformers reads them
        parameter.data = parameter.data.bfloat16()
    lm = WAYS[way](kind, base=base, use_dora=True)
    assert len({value.dtype for value in lm.parameters()}) == (2 if way == "wrapped" else 1)
    model = projector(lm)
    model.save_pretrained(tmp_path / "m")
    loaded = load_prefix_model(tmp_path / "m")
    check_the_same(loaded, model)
    found, wanted = adapter_state(loaded.lm), adapter_state(lm)
    assert {n: v.dtype for n, v in found.items()} == {n: v.dtype for n, v in wanted.items()}
    words, head = loaded.lm.get_input_embeddings(), loaded.lm.get_output_embeddings()
    assert (words.weight is head.weight) is tied


@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.parametrize("kind", KINDS)
def test_adapters_of_a_language_model_that_is_only_named(
    kind: str, way: str, tmp_path: Path
) -> None:
    plain(kind).save_pretrained(tmp_path / "lm")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "lm")
    model = projector(WAYS[way](kind, base=base, use_dora=True, modules_to_save=["ln_f", "norm"]))
    model.save_pretrained(tmp_path / "m", language_model="reference")
    assert not list((tmp_path / "m").rglob("model.safetensors"))
    check_the_same(load_prefix_model(tmp_path / "m"), model)
    given = AutoModelForCausalLM.from_pretrained(tmp_path / "lm")
    check_the_same(ProjectorModel.from_pretrained(tmp_path / "m", lm=given), model)


def from_folder(folder: Path, kind: str) -> Any:
    path, _ = adapter_folder(folder, kind)
    return AutoModelForCausalLM.from_pretrained(path)


def loaded(folder: Path, kind: str) -> Any:
    path, _ = adapter_folder(folder, kind)
    lm = AutoModelForCausalLM.from_pretrained(folder / "base")
    lm.load_adapter(str(path))
    return lm


def added(folder: Path, kind: str) -> Any:
    plain(kind).save_pretrained(folder / "base")
    lm = AutoModelForCausalLM.from_pretrained(folder / "base")
    try:
        lm.add_adapter(settings(kind), "mine")
    except (ImportError, ValueError) as error:
        pytest.skip(f"this transformers does not take this peft: {error}")
    return trained(lm)


@pytest.mark.parametrize("storage", ["store", "reference"])
@pytest.mark.parametrize("way", [from_folder, loaded, added])
@pytest.mark.parametrize("kind", KINDS)
def test_adapters_that_transformers_put_there(
    kind: str, way: Callable[[Path, str], Any], storage: Any, tmp_path: Path
) -> None:
    """As they are in memory; some releases do not read all that the folder holds."""
    lm = way(tmp_path, kind)
    assert type(lm).__name__ in ("GPT2LMHeadModel", "LlamaForCausalLM") and is_adapted(lm)
    model, before = projector(lm), everything(lm)
    model.save_pretrained(tmp_path / "m", language_model=storage)
    assert unchanged(lm, before)
    check_the_same(load_prefix_model(tmp_path / "m"), model)


@pytest.mark.parametrize("case", list(CASES))
@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_weights_are_the_language_models_or_the_adapters(kind: str, way: str, case: str) -> None:
    """None is lost, wherever peft puts its layers; and names are those of the plain model."""
    base = plain(kind)
    names = set(base.state_dict())
    lm = WAYS[way](kind, base=base, **CASES[case])
    assert set(plain_state(lm)) == names
    here = {value.data_ptr() for value in lm.state_dict().values()}
    under = {value.data_ptr() for value in plain_state(lm).values()}
    ours = {value.data_ptr() for value in adapter_state(lm).values()}
    assert here == under | ours
    assert ours and (not under & ours or case == "biases")


@pytest.mark.parametrize("way", list(WAYS))
def test_adapters_are_seen_until_they_are_gone(way: str) -> None:
    lm = WAYS[way]("llama")
    assert is_adapted(lm) and is_adapted(torch.compile(lm)) and not is_adapted(plain("llama"))
    if way == "wrapped":
        assert not is_adapted(lm.merge_and_unload())
        assert not is_adapted(wrapped("llama").unload())


def test_a_compiled_language_model_with_adapters(tmp_path: Path) -> None:
    lm = wrapped("llama")
    model = clipcap(torch.compile(lm))
    model.save_pretrained(tmp_path / "m")
    found = load_prefix_model(tmp_path / "m").lm
    torch.testing.assert_close(scores(found), scores(lm), atol=1e-5, rtol=0)


# --- what can't be kept is refused when the prefix model is made


def merged(way: str) -> Any:
    lm = WAYS[way]("llama")
    for part in lm.modules():
        if isinstance(part, peft.tuners.lora.Linear):
            part.merge()
    return lm


def two_sets() -> Any:
    lm = wrapped("llama")
    lm.add_adapter("other", settings("llama"))
    return lm


def off() -> Any:
    lm = wrapped("llama")
    lm.base_model.disable_adapter_layers()
    return lm


def of(config: peft.PeftConfig) -> Any:
    return peft.get_peft_model(plain("llama"), config)


LM = {"task_type": "CAUSAL_LM"}
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "merged": (lambda: merged("wrapped"), r"merged .* count twice; call unmerge_adapter"),
    "merged, injected": (lambda: merged("injected"), "count twice"),
    "two sets": (two_sets, r"one set of adapters .* found \['default', 'other'\]"),
    "around another": (
        lambda: peft.get_peft_model(injected("llama"), settings("llama")),
        r"one set of adapters .* found \['default', 'mine'\]",
    ),
    "off": (off, "enabled .* found them disabled"),
    "prompt tuning": (
        lambda: of(peft.PromptTuningConfig(num_virtual_tokens=3, **LM)),
        "kind LORA on the language model, found PROMPT_TUNING",
    ),
    "prefix tuning": (
        lambda: of(peft.PrefixTuningConfig(num_virtual_tokens=3, **LM)),
        "found PREFIX_TUNING",
    ),
    "IA3": (
        lambda: of(peft.IA3Config(target_modules=["k_proj"], feedforward_modules=[], **LM)),
        "found IA3",
    ),
    "IA3, injected": (
        lambda: peft.inject_adapter_in_model(
            peft.IA3Config(target_modules=["k_proj"], feedforward_modules=[]), plain("llama")
        ),
        "found IA3",
    ),
    "activated": (
        lambda: wrapped("llama", alora_invocation_tokens=[3]),
        "without alora_invocation_tokens",
    ),
    "more layers": (
        lambda: wrapped("llama", layer_replication=[(0, 2), (1, 2)]),
        "without layer_replication",
    ),
}


@pytest.mark.parametrize("make", [clipcap, projector])
@pytest.mark.parametrize("case", list(REFUSED))
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_adapters_that_can_not_be_kept(case: str, make: Callable[[Any], PrefixModel]) -> None:
    lm, said = REFUSED[case][0](), REFUSED[case][1]
    before = everything(lm)
    with pytest.raises(PrefixModelError, match=said) as raised:
        make(lm)
    assert "\n" not in str(raised.value)
    assert unchanged(lm, before)


def test_merging_later_is_refused_when_saved_and_may_be_undone(tmp_path: Path) -> None:
    model = clipcap(wrapped("llama"))
    model.save_pretrained(tmp_path / "m")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    model.lm.merge_adapter()
    with pytest.raises(PrefixModelError, match="count twice"):
        model.save_pretrained(tmp_path / "m")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    model.lm.unmerge_adapter()
    model.save_pretrained(tmp_path / "m")
    check_the_same(load_prefix_model(tmp_path / "m"), model)
    model.lm = model.lm.merge_and_unload()
    model.save_pretrained(tmp_path / "m")
    assert not is_adapted(load_prefix_model(tmp_path / "m").lm)
    check_the_same(load_prefix_model(tmp_path / "m"), model)


@pytest.mark.parametrize("case", ["merged for good", "pissa", "trained"])
def test_weights_that_are_no_longer_where_they_came_from_are_not_only_named(
    case: str, tmp_path: Path
) -> None:
    plain("llama").save_pretrained(tmp_path / "lm")
    lm = AutoModelForCausalLM.from_pretrained(tmp_path / "lm")
    if case == "merged for good":
        lm = wrapped("llama", base=lm).merge_and_unload()
    elif case == "pissa":
        lm = wrapped("llama", base=lm, init_lora_weights="pissa")
    else:
        trained(lm)
    model = projector(lm)
    with pytest.raises(PrefixModelError, match=r"no longer that of .*/lm .*; store it") as raised:
        model.save_pretrained(tmp_path / "m", language_model="reference")
    assert "\n" not in str(raised.value) and not (tmp_path / "m").exists()
    model.save_pretrained(tmp_path / "m", language_model="store")
    check_the_same(load_prefix_model(tmp_path / "m"), model)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounded_weights_are_still_those_that_were_rounded(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    plain("llama").save_pretrained(tmp_path / "lm")
    for lm in (
        AutoModelForCausalLM.from_pretrained(tmp_path / "lm", dtype=dtype),
        AutoModelForCausalLM.from_pretrained(tmp_path / "lm", dtype=dtype).float(),
    ):
        projector(lm).save_pretrained(tmp_path / "m", language_model="reference")


def test_weights_under_adapters_that_are_not_the_classs_own(tmp_path: Path) -> None:
    """As quantised ones are: other types, and scales beside them."""
    lm = wrapped("llama")
    layer = next(part for part in lm.modules() if isinstance(part, peft.tuners.lora.Linear))
    layer.get_base_layer().register_buffer("scales", torch.ones(2))
    with pytest.raises(PrefixModelError, match="under the adapters can't be stored") as raised:
        clipcap(lm).save_pretrained(tmp_path / "m")
    assert "\n" not in str(raised.value) and not (tmp_path / "m").exists()


def test_weights_under_adapters_that_are_not_in_memory(tmp_path: Path) -> None:
    """As accelerate has them that it keeps on a disk."""
    lm = wrapped("llama")
    model = projector(lm)
    layer = next(part for part in lm.modules() if isinstance(part, peft.tuners.lora.Linear))
    layer.get_base_layer().to("meta")
    with pytest.raises(PrefixModelError, match="not all are in memory") as raised:
        model.save_pretrained(tmp_path / "m")
    assert "\n" not in str(raised.value) and not (tmp_path / "m").exists()
