"""The command line: what it prints and writes."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

from regionlm.cli.main import main
from regionlm.embedders.options import EMBEDDER_OPTIONS

_ROOT = Path(__file__).parents[3]
_FIGURES = {"logprob", "dice", "iou", "cosine_to_image"}
_OTHERS = [name for name in EMBEDDER_OPTIONS if name != "maskinversion"]


def _run(*argv: str, **options: object) -> subprocess.CompletedProcess[str]:
    code = "import sys; from regionlm.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", code, *argv]
    return subprocess.run(command, capture_output=True, text=True, cwd=_ROOT, **options)


@pytest.fixture
def run(tiny_bundle: Path, image: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command on `image` with the tiny bundle; return what it printed."""

    def call(command: str, *argv: object) -> str:
        code = main([command, str(image), "--model", str(tiny_bundle), *map(str, argv)])
        printed = capsys.readouterr()
        assert (code, printed.err) == (0, "")
        return printed.out

    return call


def test_one_region_prints_its_caption_only(
    run: Callable[..., str], write_mask: Callable[..., Path]
) -> None:
    out = run("caption", "--mask", write_mask("m.png"))
    assert out.count("\n") == 1 and out.strip()
    assert "m.png" not in out
    rows = json.loads(run("caption", "--mask", write_mask("m.png"), "--json"))["regions"]
    assert rows[0]["caption"] == out.strip()


def test_answers_say_that_the_trunk_was_in_half_precision(
    run: Callable[..., str], tmp_path: Path
) -> None:
    half = ("--box", "1,2,30,25", "--precision", "bfloat16")
    for command, *options in (("caption",), ("match", "--text", "a dog"), ("explain",)):
        assert json.loads(run(command, *options, *half, "--json"))["precision"] == "bfloat16"
    file = tmp_path / "half.safetensors"
    run("embed", *half, "--output", file)
    with safe_open(file, "pt") as found:
        assert found.metadata()["precision"] == "bfloat16"


def test_several_regions_print_a_line_each(
    run: Callable[..., str], write_mask: Callable[..., Path]
) -> None:
    first, second = write_mask("a.png"), write_mask("b.png", 0, 0, 9, 9)
    lines = run("caption", "--box", "1,2,30,25", "--mask", first, second).splitlines()
    names = [str(first), str(second), "box 1,2,30,25"]
    assert len(lines) == 3
    assert all(line.startswith(f"{name}: ") for line, name in zip(lines, names, strict=True))


def test_json_holds_exactly_what_is_promised(
    run: Callable[..., str], write_mask: Callable[..., Path], image: Path, tiny_bundle: Path
) -> None:
    mask = write_mask("m.png")
    answer = json.loads(run("caption", "--mask", mask, "--box", "0,0,9,9", "--json"))
    assert list(answer) == ["image", "model", "regions"]
    assert (answer["image"], answer["model"]) == (str(image), str(tiny_bundle))
    assert [row["region"] for row in answer["regions"]] == [str(mask), "box 0,0,9,9"]
    for row in answer["regions"]:
        assert set(row) == {"region", "caption"} | _FIGURES
        assert isinstance(row["caption"], str) and row["logprob"] < 0
        assert 0 <= row["dice"] <= 1 and 0 <= row["iou"] <= 1
        assert -1 <= row["cosine_to_image"] < 1


def test_a_label_map_gives_a_line_a_label(run: Callable[..., str], image: Path) -> None:
    labels = np.zeros((30, 40), np.uint8)
    labels[:9, :9], labels[20:, 20:] = 1, 7
    path = image.with_name("labels.png")
    Image.fromarray(labels).save(path)
    rows = json.loads(run("caption", "--mask", path, "--json"))["regions"]
    assert [row["region"] for row in rows] == [f"{path}#1", f"{path}#7"]
    Image.fromarray(np.where(labels == 7, labels, 0)).save(path)
    assert run("caption", "--mask", path).startswith(f"{path}#7: ")
    assert run("match", "--mask", path, "--text", "a dog").startswith(f"{path}#7: a dog ")


def test_results_do_not_depend_on_other_regions(run: Callable[..., str]) -> None:
    boxes = ["0,0,9,9", "10,10,30,30", "5,0,40,30"]
    flags = [part for box in boxes for part in ("--box", box)]
    together = json.loads(run("caption", *flags, "--json"))["regions"]
    for row, box in zip(together, boxes, strict=True):
        alone = json.loads(run("caption", "--box", box, "--json"))["regions"][0]
        assert alone["caption"] == row["caption"]
        assert alone["dice"] == pytest.approx(row["dice"], abs=1e-4)


def test_inversion_options_reach_the_model(run: Callable[..., str]) -> None:
    def figures(*options: object) -> dict[str, float]:
        return json.loads(run("caption", "--box", "0,0,20,20", "--json", *options))["regions"][0]

    assert figures("--steps", 0)["cosine_to_image"] == pytest.approx(1, abs=1e-5)
    start = figures()
    for option in (
        ["--steps", 6],
        ["--lr", 0.5],
        ["--alpha", 5],
        ["--size", 64],
        ["--resize", "pad"],
        ["--resize", "native"],
    ):
        changed = figures(*option)
        assert changed["cosine_to_image"] != pytest.approx(start["cosine_to_image"], abs=1e-6)
    assert figures("--size", "[32, 64]")["dice"] != pytest.approx(start["dice"], abs=1e-6)


def test_seeded_sampling_and_beams(run: Callable[..., str]) -> None:
    query = ["--box", "0,0,20,20", "--max_new_tokens", 8, "--decoding"]
    sampled = [run("caption", *query, "sample", "--seed", seed) for seed in (1, 1, 2, 3)]
    assert sampled[0] == sampled[1]
    assert len(set(sampled)) > 1
    assert run("caption", *query, "beam", "--beam_size", 3).strip()


def test_decoding_controls(run: Callable[..., str]) -> None:
    def words(*options: object) -> list[str]:
        query = ["--box", "0,0,20,20", "--max_new_tokens", 12, "--min_new_tokens", 11]
        return re.findall(r"\w+|[,.]", run("caption", *query, *options))

    plain = words()
    assert len(plain) > len(set(plain))  # else the next line would prove nothing
    once = words("--no_repeat_ngram_size", 1)
    assert len(once) == len(set(once))
    assert len(set(words("--repetition_penalty", 5))) > len(set(plain))
    others = words("--bad_words", plain[0], "--bad_words", plain[1])
    assert others and not set(others) & set(plain[:2])
    assert words("--caption-start", "a red") != plain


def test_heatmap_is_written_beside_the_captions(run: Callable[..., str], image: Path) -> None:
    before = set(image.parent.iterdir())
    heatmap = image.with_name("h.png")
    boxes = ["--box", "0,0,20,20", "--box", "10,5,40,30"]
    assert run("caption", *boxes, "--heatmap", heatmap).count("\n") == 2
    assert set(image.parent.iterdir()) == before | {heatmap}
    with Image.open(heatmap) as picture:
        assert picture.width == 2 * 480 + 12 and picture.height > 360


def test_match_gives_probabilities(
    run: Callable[..., str], write_mask: Callable[..., Path]
) -> None:
    query = ["--mask", write_mask("m.png"), "--text", "a dog", "--text", "a red taxi"]
    answer = json.loads(run("match", *query, "--json"))
    assert list(answer) == ["image", "model", "texts", "regions"]
    assert answer["texts"] == ["a dog", "a red taxi"]
    [row] = answer["regions"]
    assert set(row) == {"region", "probabilities", "similarities"}
    assert sum(row["probabilities"]) == pytest.approx(1, abs=1e-5)
    likelier = answer["texts"][int(np.argmax(row["probabilities"]))]
    line = run("match", *query)
    assert line.startswith(f"{likelier} {100 * max(row['probabilities']):.1f}%, ")
    assert line.count("\n") == 1
    several = run("match", *query, "--box", "0,0,9,9").splitlines()
    assert len(several) == 2 and several[1].startswith("box 0,0,9,9: ")


def test_embed_writes_the_embeddings(
    run: Callable[..., str], write_mask: Callable[..., Path], image: Path, tiny_bundle: Path
) -> None:
    from regionlm.captioner import RegionCaptioner
    from regionlm.inputs.masks import read_regions

    mask, output = write_mask("m.png"), image.with_name("let.safetensors")
    assert run("embed", "--mask", mask, "--output", output) == f"{output}: embeddings [1, 16]\n"
    captioner = RegionCaptioner.from_pretrained(tiny_bundle, device="cpu")
    wanted = captioner.embed(image, read_regions(mask, (40, 30)))
    with safe_open(output, "np") as file:
        assert set(file.keys()) == {"embeddings", "image_embedding"} | _FIGURES - {"logprob"}
        found = file.get_tensor("embeddings")
        assert file.metadata()["regions"] == json.dumps([str(mask)])
    assert np.allclose(found, wanted.embeddings.numpy(), atol=1e-5)


def test_every_answer_says_that_it_is_fast(run: Callable[..., str], image: Path) -> None:
    query, output = ["--box", "0,0,20,20", "--size", 32], image.with_name("let.safetensors")
    for command, *others in (["caption"], ["match", "--text", "a dog"], ["explain"]):
        assert "speed" not in json.loads(run(command, *query, *others, "--json"))
        fast = json.loads(run(command, *query, *others, "--speed", "fast", "--json"))
        assert fast["speed"] == "fast"
    run("embed", *query, "--speed", "fast", "--output", output)
    with safe_open(output, "np") as file:
        assert file.metadata()["speed"] == "fast"


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are Unicode")
def test_embed_takes_a_name_that_is_not_unicode(
    image: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = image.with_name(os.fsdecode(b"\xff.png"))
    image.rename(odd)
    output = image.with_name("e.safetensors")
    where = ["--box", "0,0,9,9", "--model", str(tiny_bundle), "--output", str(output)]
    assert main(["embed", str(odd), *where]) == 0, capsys.readouterr().err
    with safe_open(output, "np") as file:
        assert file.metadata()["image"].endswith(r"/\udcff.png")


@pytest.fixture
def embedder_flags(tiny_bundle: Path, write_alphaclip: Callable[..., Path]) -> Callable[..., list]:
    """The flags that choose an embedder; alphaclip's weights are the bundle's own, and random."""

    def flags(name: str) -> list[object]:
        from regionlm.captioner import RegionCaptioner

        chosen: list[object] = ["--embedder", name]
        if name == "alphaclip":
            backbone = RegionCaptioner.from_pretrained(tiny_bundle, device="cpu").backbone
            chosen += ["--checkpoint", write_alphaclip(backbone.model)]
        return chosen

    return flags


@pytest.mark.parametrize("name", _OTHERS)
def test_every_embedder_can_be_asked_for(
    name: str, run: Callable[..., str], embedder_flags: Callable[..., list], image: Path
) -> None:
    from regionlm.captioner import RegionCaptioner
    from regionlm.embedders import make_embedder

    query = ["--box", "0,0,20,20", "--box", "10,5,40,30", *embedder_flags(name)]
    answer = json.loads(run("caption", *query, "--size", 24, "--json"))
    assert answer["embedder"] == name and len(answer["regions"]) == 2
    for row in answer["regions"]:
        assert set(row) == {"region", "caption"} | _FIGURES
        assert row["caption"].strip() and row["dice"] is None and row["iou"] is None
        assert -1 <= row["cosine_to_image"] <= 1.001
    matched = json.loads(run("match", *query, "--text", "a dog", "--text", "a cat", "--json"))
    assert matched["embedder"] == name
    output = image.with_name("e.safetensors")
    run("embed", *query, "--size", "[24, 40]", "--output", output)
    backbone = RegionCaptioner.from_pretrained(answer["model"], device="cpu").backbone
    options = {"checkpoint": query[-1]} if name == "alphaclip" else {}
    masks = np.zeros((2, 30, 40), bool)
    masks[0, :20, :20] = masks[1, 5:, 10:] = True
    with Image.open(image) as picture:
        wanted = make_embedder(name, backbone, size=(24, 40), **options)(picture, masks)
    with safe_open(output, "np") as file:
        assert set(file.keys()) == {"embeddings", "image_embedding", "cosine_to_image"}
        found = file.get_tensor("embeddings")
        assert file.metadata()["embedder"] == name
    assert np.allclose(found, wanted.embeddings.numpy(), atol=1e-5)


def test_the_default_model_answers_in_a_fresh_process(
    image: Path, write_mask: Callable[..., Path]
) -> None:
    query = ["caption", str(image), "--mask", str(write_mask("m.png")), "--json", "--offline"]
    done = _run(*query)
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    assert answer["model"] == "mini"
    assert answer["regions"][0]["caption"].strip()


@pytest.mark.parametrize("prefix", ["adapted", "zero-shot"])
def test_the_bundled_prefixes(prefix: str, image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["caption", str(image), "--box", "0,0,20,20", "--prefix", prefix]) == 0
    assert capsys.readouterr().out.strip()
