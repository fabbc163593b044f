"""An unmodified LLaVA that captions regions: its own answer for a full mask, others for parts."""

import copy
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from prefix_models import LlavaReader, PrefixModelError
from prefix_models.llava import llava_prompt
from regionlm import InputError, LlavaCaptioner, MaskInversion, ModelError, RegionCaptioner
from regionlm.cli.main import main
from regionlm.relevance.resize import GridToMask
from tests.tiny_llava import SIDE, tiny_llava

PROMPT = "describe this image"
SIZE = (60, 40)  # width, height: cropped to the middle 40 x 40, or padded to 60 x 60


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 255, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    return Image.fromarray(noise)


@pytest.fixture(scope="module")
def captioner() -> LlavaCaptioner:
    return LlavaCaptioner(LlavaReader(*tiny_llava()), prompt=PROMPT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("llava") / "tiny-llava"
    model, processor = tiny_llava()
    model.save_pretrained(target)
    processor.save_pretrained(target)
    return target


def masks() -> np.ndarray:
    """The whole picture; a part; another part."""
    found = np.zeros((3, SIZE[1], SIZE[0]), dtype=bool)
    found[0] = True
    found[1, 5:20, 20:40] = True
    found[2, 25:, 30:45] = True
    return found


def ordinary(model: Any, processor: Any, picture: Image.Image, **options: Any) -> Any:
    """What transformers' own generate says of the whole picture: tokens and log-probabilities."""
    text = llava_prompt(processor, PROMPT)
    inputs = processor(images=picture, text=text, return_tensors="pt")
    with torch.no_grad():
        said = model.generate(
            **inputs, max_new_tokens=12, do_sample=False, output_scores=True,
            return_dict_in_generate=True, **options,
        )  # fmt: skip
    ids = said.sequences[0, inputs["input_ids"].shape[1] :].tolist()
    scores = zip(said.scores, ids, strict=True)
    return ids, [step.log_softmax(-1)[0, token].item() for step, token in scores]


# --- the ordinary answer


@pytest.mark.parametrize("pad", [False, True])
@pytest.mark.parametrize(
    ("layer", "strategy"), [(-2, "default"), (-1, "full"), ([-2, -3], "default")]
)
@pytest.mark.parametrize("lm", ["llama", "qwen2"])
def test_a_full_mask_gives_the_models_ordinary_answer(lm, layer, strategy, pad, picture):
    model, processor = tiny_llava(lm, layer=layer, strategy=strategy, pad=pad)
    ids, logprobs = ordinary(model, processor, picture)
    captioner = LlavaCaptioner(LlavaReader(model, processor), prompt=PROMPT)
    alone = captioner.caption(picture, masks()[:1], max_new_tokens=12)[0].generation
    assert (alone.token_ids, alone.token_logprobs) == (ids, logprobs)
    # Beside regions that weigh tokens down, too.
    beside = captioner.caption(picture, masks(), max_new_tokens=12)
    assert beside[0].generation == alone
    assert any(caption.generation.token_ids != ids for caption in beside[1:])


def test_a_full_mask_ends_where_the_generation_config_says(picture):
    model, processor = tiny_llava()
    word = ordinary(model, processor, picture)[0][2]
    model.generation_config.eos_token_id = [2, word]
    ids, _ = ordinary(model, processor, picture)
    assert ids[-1] == word
    captioner = LlavaCaptioner(LlavaReader(model, processor), prompt=PROMPT)
    said = captioner.caption(picture, masks()[:1], max_new_tokens=12)[0].generation
    assert said.token_ids == ids


def test_the_processors_chat_template_is_used(picture):
    model, processor = tiny_llava()
    processor.chat_template = (
        "{% for turn in messages %}{% for part in turn['content'] %}"
        "{% if part['type'] == 'image' %}<image>{% else %} red red {{ part['text'] }}{% endif %}"
        "{% endfor %}{% endfor %} cat"
    )
    assert llava_prompt(processor, "a dog") == "<image> red red a dog cat"
    ids, logprobs = ordinary(model, processor, picture)
    captioner = LlavaCaptioner(LlavaReader(model, processor), prompt=PROMPT)
    said = captioner.caption(picture, masks()[:1], max_new_tokens=12)[0].generation
    assert (said.token_ids, said.token_logprobs) == (ids, logprobs)


# --- regions


def test_a_region_shows_its_own_patches(captioner, picture):
    seen = captioner.look(picture, masks())
    assert seen.weights.shape == (3, (SIDE // 8) ** 2) and (seen.weights[0] == 1).all()
    for weights in seen.weights[1:]:
        kept = weights[weights > 0]
        assert 1 <= len(kept) < len(weights) and kept.min() >= 0.5 and kept.max() == 1
    strict = LlavaCaptioner(captioner.reader, least_weight=1).look(picture, masks())
    assert ((strict.weights == 1) == (seen.weights == 1)).all()
    assert set(strict.weights.unique().tolist()) == {0.0, 1.0}


def test_the_map_is_maskinversions_on_the_same_tower(captioner, picture):
    seen = captioner.look(picture, masks(), steps=4, lr=0.3, alpha=1.0)
    inversion = MaskInversion(captioner.backbone, steps=4, lr=0.3, alpha=1.0)
    pixels = captioner.reader.processor.image_processor(picture, return_tensors="pt")
    cropped = masks()[:, :, 10:50]  # what the processor's centre crop leaves, before it shrinks
    again = inversion(pixels["pixel_values"][0], cropped)
    torch.testing.assert_close(again.image_embedding, seen.found.image_embedding)
    cosine = torch.cosine_similarity(again.embeddings, seen.found.embeddings)
    assert cosine.min() > 0.9  # masks of 40 pixels a side against 32


def test_regions_do_not_depend_on_their_company(captioner, picture):
    together = captioner.caption(picture, masks(), decoding="sample", seed=[1, 2, 3])
    for index, mask in enumerate(masks()):
        (alone,) = captioner.caption(picture, mask, decoding="sample", seed=[index + 1])
        assert alone.text == together[index].text
        assert alone.logprob == pytest.approx(together[index].logprob, abs=1e-3)


def test_a_view_is_seen_once(captioner, picture, monkeypatch):
    _, first, second = masks()
    wanted = [captioner.caption(picture, mask)[0].to_dict() for mask in (first, second)]
    view, seen = captioner.encode(picture), []
    monkeypatch.setattr(captioner.reader, "see", seen.append)
    assert [captioner.caption(view, mask)[0].to_dict() for mask in (first, second)] == wanted
    assert "".join(captioner.stream(view, second)) == wanted[1]["caption"] and not seen


@pytest.mark.parametrize("decoding", ["greedy", "beam", "sample"])
def test_every_decoding(captioner, picture, decoding):
    options: dict[str, Any] = {"decoding": decoding, "seed": 3, "max_new_tokens": 6}
    found = captioner.caption(picture, masks(), **options)
    assert len(found) == 3 and all(0 <= caption.iou <= 1 for caption in found)
    assert all(np.isfinite(caption.logprob) and caption.logprob < 0 for caption in found)
    if decoding != "beam":
        pieces = captioner.stream(picture, masks()[1], **options)
        assert isinstance(pieces, Iterator) and "".join(pieces) == found[1].text


def test_the_prompt_matters(captioner, picture):
    said = {captioner.caption(picture, masks()[1], prompt=p)[0].text for p in ("a cat", "red owl")}
    assert len(said) == 2


def test_a_thin_region_and_one_out_of_sight(captioner, picture):
    thin = np.zeros((SIZE[1], SIZE[0]), dtype=bool)
    thin[20, 30] = True
    assert (captioner.look(picture, thin).weights == 1).sum() >= 1
    cut_off = np.zeros_like(thin)
    cut_off[:, :5] = True  # left of the centre crop
    with pytest.raises(InputError, match="covers nothing of what custom's processor"):
        captioner.caption(picture, np.stack([masks()[1], cut_off]))
    padded = LlavaCaptioner(LlavaReader(*tiny_llava(pad=True)), prompt=PROMPT)
    assert padded.caption(picture, cut_off)[0].text is not None


def test_nothing_of_the_model_changes(picture):
    model, processor = tiny_llava()
    model.train()
    before = copy.deepcopy(model.state_dict())
    flags = [(part.training, part.forward.__func__) for part in model.modules()]
    captioner = LlavaCaptioner(LlavaReader(model, processor), prompt=PROMPT)
    with torch.inference_mode():
        first = captioner.caption(picture, masks())
    assert [c.text for c in first] == [c.text for c in captioner.caption(picture, masks())]
    assert flags == [(part.training, part.forward.__func__) for part in model.modules()]
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_half_precision(picture):
    model, processor = tiny_llava()
    captioner = LlavaCaptioner(LlavaReader(model.to(torch.bfloat16), processor), prompt=PROMPT)
    found = captioner.caption(picture, masks(), max_new_tokens=5)
    assert all(np.isfinite(caption.logprob) for caption in found)


@pytest.mark.parametrize("pad", [False, True])
def test_heatmaps_lie_on_the_image(picture, pad):
    """The map of the tower's input, brought back to where the processor found its pixels."""
    captioner = LlavaCaptioner(LlavaReader(*tiny_llava(pad=pad)), prompt=PROMPT)
    caption = captioner.caption(picture, masks()[1])[0]
    whole = caption.heatmap()
    assert whole.shape == (SIZE[1], SIZE[0]) and whole.min() >= 0 and whole.max() <= 1
    own = captioner.look(picture, masks()[1])
    resize = GridToMask.of((4, 4), (8, 8), (32, 32), own.found.relevance)
    (seen,) = resize.heatmaps(own.found.relevance)
    side = max(SIZE) if pad else min(SIZE)
    square = F.interpolate(seen[None, None], (side, side), mode="bilinear")[0, 0].numpy()
    if pad:
        np.testing.assert_allclose(whole, square[10:50], atol=0.02)  # the picture is in the middle
    else:
        np.testing.assert_allclose(whole[:, 10:50], square, atol=0.02)
        assert not whole[:, :9].any() and not whole[:, 51:].any()  # cut off


# --- files and the command line


def test_a_folder_by_command_and_in_bulk(folder, picture, tmp_path, capsys):
    picture.save(tmp_path / "p.png")
    arguments = [str(tmp_path / "p.png"), "--box", "20,5,40,20", "--box", "0,0,60,40"]
    arguments += ["--model", str(folder), "--prompt", PROMPT, "--max_new_tokens", "9"]
    assert main(["caption", *arguments, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)["regions"]
    model, processor = tiny_llava()
    model.generation_config.max_length = None
    ids = ordinary(model, processor, picture)[0][:9]
    assert said[1]["caption"] == processor.tokenizer.decode(ids, skip_special_tokens=True)
    loaded = LlavaCaptioner.from_pretrained(folder, prompt=PROMPT, device="cpu")
    boxes = [caption.text for caption in loaded.caption(picture, masks()[1:2], max_new_tokens=9)]
    assert [said[0]["caption"]] == boxes
    drawn = tmp_path / "h.png"
    assert main(["caption", *arguments, "--heatmap", str(drawn)]) == 0 and drawn.stat().st_size

    regions = [{"box": [20, 5, 40, 20]}, {"box": [0, 0, 60, 40]}]
    manifest, output = tmp_path / "m.jsonl", tmp_path / "out.jsonl"
    manifest.write_text(json.dumps({"image": "p.png", "regions": regions}))
    bulk = ["--manifest", str(manifest), "--output", str(output)]
    assert main(["caption", *bulk, *arguments[5:]]) == 0
    rows = json.loads(output.read_text())["regions"]
    assert [row["caption"] for row in rows] == [region["caption"] for region in said]


@pytest.mark.parametrize(
    "options",
    [["--embedder", "crop"], ["--size", "64"], ["--resize", "pad"], ["--compile"]],
)
def test_the_configuration_alone_tells_it(folder, picture, tmp_path, capsys, options):
    """A folder without weights is refused for the option, not for them."""
    shutil.copytree(folder, tmp_path / "llava", ignore=shutil.ignore_patterns("*.safetensors"))
    picture.save(tmp_path / "p.png")
    query = [str(tmp_path / "p.png"), "--box", "20,5,40,20", "--model", str(tmp_path / "llava")]
    assert main(["caption", *query, *options]) == 2
    assert f"error: {options[0]}: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--embedder", "crop"], "expected maskinversion"),
        (["--size", "64"], "leave the size out"),
        (["--resize", "pad"], "a processor that resizes images, found pad"),
        (["--precision", "bfloat16"], "--precision: "),
        (["--prefix", "zero-shot"], "is a LLaVA, which has none"),
        (["--prompt", "<image> again"], "words only"),
        (["--prompt", " "], "not blank"),
    ],
)
def test_options_that_do_not_go_with_a_llava(
    folder, picture, tmp_path, monkeypatch, capsys, options, message
):
    monkeypatch.chdir(tmp_path)
    picture.save("p.png")
    arguments = ["p.png", "--box", "20,5,40,20", "--model", str(folder), *options]
    assert main(["caption", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["p.png"]


def test_it_captions_only(folder, picture, tmp_path, capsys):
    picture.save(tmp_path / "p.png")
    arguments = [str(tmp_path / "p.png"), "--box", "20,5,40,20", "--text", "a cat"]
    assert main(["match", *arguments, "--model", str(folder)]) == 2
    assert "is a LLaVA, which captions only" in capsys.readouterr().err
    with pytest.raises(ModelError, match="LlavaCaptioner"):
        RegionCaptioner.from_pretrained(folder)
    assert main(["caption", *arguments[:3], "--prompt", "a cat"]) == 2
    assert "only a LLaVA takes one" in capsys.readouterr().err


def test_missing_weights_are_never_random(folder, tmp_path):
    from safetensors.torch import load, save_file

    broken = tmp_path / "broken"
    broken.mkdir()
    for file in folder.iterdir():
        if file.suffix != ".safetensors":
            (broken / file.name).write_bytes(file.read_bytes())
    weights = load((folder / "model.safetensors").read_bytes())  # written over below
    weights.pop(next(name for name in weights if "linear_1.weight" in name))
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    with pytest.raises(PrefixModelError, match=r"missing .*linear_1\.weight"):
        LlavaCaptioner.from_pretrained(broken)
    (broken / "tokenizer.json").unlink()
    with pytest.raises(PrefixModelError, match="cannot read the processor"):
        LlavaCaptioner.from_pretrained(broken)


def test_parts_that_do_not_fit():
    model, processor = tiny_llava()
    with pytest.raises(PrefixModelError, match="model_type llava"):
        LlavaReader(model.model.language_model, processor)
    processor.image_token_id = 9
    with pytest.raises(PrefixModelError, match="the model expects 3"):
        LlavaReader(model, processor)
    for least in (0, 1.5):
        with pytest.raises(InputError, match="least_weight"):
            LlavaCaptioner(LlavaReader(*tiny_llava()), least_weight=least)


def test_attention_that_takes_no_weights_is_named(picture):
    model, processor = tiny_llava()
    captioner = LlavaCaptioner(LlavaReader(model, processor), prompt=PROMPT)
    model.config.text_config._attn_implementation = "flash_attention_2"
    with pytest.raises(PrefixModelError, match="attn_implementation='sdpa'"):
        captioner.caption(picture, masks()[1])
