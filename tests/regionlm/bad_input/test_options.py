"""Bad options and outputs, through the command line."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Refused = Callable[..., str]


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        (["--steps", "-1"], "steps"),
        (["--steps", "10000000000000"], "steps: expected an integer from 0 to 100000"),
        (["--steps", "1.5"], "--steps: expected int, found '1.5'"),
        (["--lr", "0"], "lr"),
        (["--lr", "-1"], "lr"),
        (["--lr", "nan"], "--lr: expected a finite number, found 'nan'"),
        (["--lr", ".nan"], "error: --lr: expected a number > 0 and <= 1000000, found nan"),
        (["--lr", ".inf"], "lr: expected a number > 0 and <= 1000000, found inf"),
        (["--alpha", "-1"], "alpha"),
        (["--size", "0"], "size"),
        (["--size", "-32"], "size"),
        (["--size", "7"], "error: --size: expected multiples of the patch (8 pixels)"),
        (["--size", "1000000"], "size"),
        (["--size", "[32]"], "--size: expected int or tuple[int, int]"),
        (["--size", "large"], "--size: expected int or tuple[int, int], found 'large'"),
        (["--decoding", "magic"], "expected one of 'greedy', 'beam', 'sample'"),
        (["--decoding", "sample", "--temperature", "0"], "temperature"),
        (["--temperature", "nan"], "--temperature: expected a finite number, found 'nan'"),
        (["--decoding", "sample", "--seed", "-1"], "seed"),
        (["--seed", "x"], "--seed: expected int, found 'x'"),
        (["--decoding", "sample", "--seed", "1" * 30], "seed"),
        (["--decoding", "beam", "--beam_size", "0"], "beam_size"),
        (
            ["--seed", "1"],
            "--seed goes with --decoding sample, not greedy; choose sample, or leave it out",
        ),
        (["--temperature", "2"], "--temperature goes with --decoding sample or beam, not greedy"),
        (["--beam_size", "3"], "--beam_size goes with --decoding beam, not greedy"),
        (["--decoding", "beam", "--seed", "1"], "--seed goes with --decoding sample, not beam"),
        (["--decoding", "sample", "--beam_size", "3"], "--beam_size goes with --decoding beam"),
        (["--max_new_tokens", "0"], "max_new_tokens"),
        (["--max_new_tokens", "100000"], "ask for at most 37 new tokens"),
        (["--min_new_tokens", "38"], "min_new_tokens=38 exceeds the maximum of 37 new tokens"),
        (
            ["--repetition_penalty", "0"],
            "repetition_penalty: expected a number from 1e-06 to 1000000",
        ),
        (["--no_repeat_ngram_size", "-1"], "no_repeat_ngram_size"),
        (["--bad_words", " "], "bad_words: expected a list of texts that are not blank"),
        (["--caption-start", "zebra"], "caption_start: the tokenizer does not know all of 'zebra'"),
        (["--prefix", "nonsense"], "no prefix named 'nonsense'"),
        (["--device", "cuda:99"], "cuda:99"),
        (["--device", "toaster"], "--device: expected auto"),
        (["--device", "meta"], "device: expected auto, cpu, cuda, cuda:N or mps, found 'meta'"),
        (["--device", "cpu:3"], "device: expected auto, cpu, cuda, cuda:N or mps, found 'cpu:3'"),
        (["--config", "none.yaml"], "none.yaml"),
        (["--no_such_option", "1"], "unrecognized arguments: --no_such_option"),
    ],
)
def test_bad_option(
    options: list[str], fragment: str, image: Path, tiny_bundle: Path, refused: Refused
) -> None:
    query = ["caption", image, "--box", "0,0,20,20", "--model", tiny_bundle]
    assert fragment in refused(*query, "--heatmap", "heat.png", *options)


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        (["blip"], "--embedder: expected one of 'maskinversion', 'cls', 'crop'"),
        (
            ["maskinversion", "--relevance", "chefer", "--speed", "fast", "--model", "none"],
            "error: --speed: expected exact with relevance chefer, found fast; fast is for",
        ),
        (["crop", "--speed", "fast"], "--speed is an option of maskinversion, not of crop"),
        (["maskinversion", "--speed", "quick"], "--speed: expected one of 'exact', 'fast'"),
        (["crop", "--steps", "3"], "--steps is an option of maskinversion, not of crop"),
        (["sclip", "--lr", "0.1"], "--lr is an option of maskinversion, not of sclip"),
        (["cls", "--alpha", "0"], "--alpha is an option of maskinversion, not of cls"),
        (["crop", "--heatmap", "heat.png"], "--heatmap: the embedder crop has no relevance map"),
        (["crop", "--size", "7"], "size"),
        (["alphaclip"], "alphaclip needs the file of an Alpha-CLIP"),
        (["crop", "--checkpoint", "a.pth"], "--checkpoint is an option of alphaclip, not of crop"),
        (["alphaclip", "--checkpoint", "none.pth"], "none.pth: no such file"),
        (["alphaclip", "--checkpoint", "image.png"], "weights image.png: expected"),
    ],
)
def test_bad_embedder(
    options: list[str], fragment: str, image: Path, tiny_bundle: Path, refused: Refused
) -> None:
    query = [image, "--box", "0,0,20,20", "--model", tiny_bundle, "--embedder", *options]
    assert fragment in refused("caption", *query)
    if "--heatmap" not in options:
        assert fragment in refused("match", *query, "--text", "a dog")
        assert fragment in refused("embed", *query, "--output", "e.safetensors")


def test_half_of_no_use_is_refused_before_the_model_is_sought(
    image: Path, refused: Refused
) -> None:
    query = [image, "--box", "0,0,9,9", "--model", "none", "--device", "cpu"]
    options = ["--precision", "float16"]
    wanted = "--precision: expected float32 or bfloat16 on a CPU"
    assert wanted in refused("caption", *query, *options)
    assert wanted in refused("match", *query, *options, "--text", "a dog")


@pytest.mark.parametrize(
    ("output", "fragment"),
    [
        ("no/such/folder/h.png", "the folder no/such/folder does not exist"),
        (".", "is a folder"),
        ("image.png/h.png", "does not exist"),
        ("x" * 300 + ".png", "cannot be written"),
    ],
)
def test_unwritable_output(output: str, fragment: str, image: Path, refused: Refused) -> None:
    suffixed = output if output != "." else "folder.png"
    (image.parent / "folder.png").mkdir()
    query = [image, "--box", "0,0,9,9"]
    assert fragment in refused("caption", *query, "--heatmap", suffixed)
    tensors = output.removesuffix("h.png").removesuffix(".png") + "h.safetensors"
    output = output if output == "." else tensors
    assert fragment in refused("embed", *query, "--output", output)


def test_heatmap_of_an_unknown_kind(image: Path, refused: Refused) -> None:
    message = refused("caption", image, "--box", "0,0,9,9", "--heatmap", "h.pdf")
    assert "ending in .png, .jpg, .jpeg, .webp; found .pdf" in message


def test_an_output_without_a_name(image: Path, refused: Refused) -> None:
    query = [image, "--box", "0,0,9,9"]
    assert "no name given" in refused("caption", *query, "--heatmap", "")
    assert "no name given" in refused("embed", *query, "--output", "")
    assert "are required: --output" in refused("embed", *query)
    assert "are required: image" in refused("match")


def test_no_command(refused: Refused) -> None:
    assert "no command given: expected one of caption, match, embed, explain" in refused()


def test_an_output_never_replaces_an_input(
    image: Path, write_mask: Callable[..., Path], tmp_path: Path, refused: Refused
) -> None:
    mask = write_mask("m.png")
    (tmp_path / "link.png").symlink_to(mask)
    (tmp_path / "a.pth").write_bytes(b"weights")
    (tmp_path / "m.jsonl").write_text('{"image": "image.png", "regions": [{"mask": "m.png"}]}\n')
    wanted = "is one of the input files, which it would replace"
    for output in (image, "image.png", "../" + tmp_path.name + "/image.png", mask, "link.png"):
        assert wanted in refused("caption", image, "--mask", mask, "--heatmap", output)
        assert wanted in refused("embed", image, "--mask", mask, "--output", output)
    assert wanted in refused("embed", image, "--mask", "link.png", "--output", "m.png")
    alpha = ["--embedder", "alphaclip", "--checkpoint", "a.pth", "--output", "./a.pth"]
    assert wanted in refused("embed", image, "--mask", mask, *alpha)
    assert wanted in refused("caption", "--manifest", "m.jsonl", "--output", "./m.jsonl")


@pytest.mark.parametrize("texts", [["xyzzy"], ["a dog", "a red xyzzy"]])
def test_match_with_unknown_words(
    texts: list[str], image: Path, tiny_bundle: Path, refused: Refused
) -> None:
    flags = [part for text in texts for part in ("--text", text)]
    message = refused("match", image, "--box", "0,0,9,9", "--model", tiny_bundle, *flags)
    assert f"text {texts[-1]!r}: the model tiny does not know 'xyzzy'" in message


@pytest.mark.parametrize("texts", [[], [""], ["a dog", " "]])
def test_match_without_text(texts: list[str], image: Path, refused: Refused) -> None:
    flags = [part for text in texts for part in ("--text", text)]
    wanted = "--text: expected words, found an empty text" if texts else "add --text"
    assert wanted in refused("match", image, "--box", "0,0,9,9", *flags)


@pytest.mark.parametrize("argv", [["caption", "none.png", "--box", "0,0,9,9"], ["caption"], ["x"]])
def test_the_process_itself(argv: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from regionlm.cli.main import main; sys.exit(main())",
            *argv,
        ],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("regionlm: error: ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [["caption"], ["eval"], ["train", "fit"]])
def test_a_config_of_another_encoding(command: list[str], tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "c.yaml").write_bytes("image: image.png\n".encode("utf-16"))
    assert "--config: expected a file of UTF-8 text" in refused(*command, "--config", "c.yaml")


def test_embeddings_under_a_foreign_ending(image: Path, refused: Refused) -> None:
    query = [image, "--box", "0,0,9,9", "--output", "let.npy"]
    assert "expected a name ending in .safetensors; found .npy" in refused("embed", *query)
