"""Every kind of bad input, through the command line.

Each case must end with exit code 2 and one line on stderr that names what is wrong, print nothing
on stdout, and leave no file behind.
"""

import json
import pickle
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regionlm.cli import main

_ORIENTATION = 0x0112
Refused = Callable[..., str]


@pytest.fixture
def refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Refused:
    """Run a command in tmp_path, check everything common to refusals, return the message."""
    monkeypatch.chdir(tmp_path)

    def run(*argv: object) -> str:
        before = _files(tmp_path)
        code = main([str(arg) for arg in argv])
        printed = capsys.readouterr()
        assert code == 2
        assert printed.out == ""
        assert printed.err.startswith("regionlm: error: ")
        assert printed.err.count("\n") == 1 and printed.err.endswith("\n")
        assert "Traceback" not in printed.err
        assert _files(tmp_path) == before
        return printed.err

    return run


def _files(folder: Path) -> dict[Path, tuple[int, int]]:
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in found}


def _png_header(width: int, height: int) -> bytes:
    """A PNG of which only the header and the first bytes of the pixels exist."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _png_chunk(b"IHDR" + header) + _png_chunk(b"IDAT" + bytes(9))


def _png_chunk(body: bytes) -> bytes:
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))


def _save_animation(path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def _grey(path: Path, values: np.ndarray, **options: object) -> None:
    Image.fromarray(values).save(path, **options)


def _noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


# --- the image -----------------------------------------------------------------------------

BAD_IMAGES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "missing": ("a.png", lambda path: None, "does not exist"),
    "folder": ("a.png", Path.mkdir, "is a folder"),
    "empty": ("a.png", Path.touch, "is empty (0 bytes)"),
    "text": ("a.png", lambda p: p.write_text("not a picture, only text"), "is not a picture"),
    "truncated PNG": (
        "a.png",
        lambda p: (_grey(p, _noise(30, 40)), p.write_bytes(p.read_bytes()[:600])),
        "damaged or incomplete",
    ),
    "truncated JPEG": (
        "a.jpg",
        lambda p: (_grey(p, _noise(30, 40)), p.write_bytes(p.read_bytes()[:-300])),
        "damaged or incomplete",
    ),
    "animated GIF": ("a.gif", _save_animation, "holds 3 frames"),
    "animated WebP": ("a.webp", _save_animation, "holds 3 frames"),
    "animated PNG": ("a.png", _save_animation, "holds 3 frames"),
    "TIFF of pages": ("a.tiff", _save_animation, "holds 3 frames"),
    "gigapixel": ("a.png", lambda p: p.write_bytes(_png_header(40_000, 30_000)), "is too large"),
    "just too large": (
        "a.png",
        lambda p: p.write_bytes(_png_header(17_850, 10_000)),
        "found 17850 x 10000",
    ),
    "floating point": ("a.tiff", lambda p: _grey(p, np.zeros((4, 4), np.float32)), "range"),
    "32 bits": ("a.tiff", lambda p: _grey(p, np.full((4, 4), 70_000, np.int32)), "0..65535"),
}


@pytest.mark.parametrize("case", BAD_IMAGES)
def test_bad_image(case: str, tmp_path: Path, refused: Refused) -> None:
    name, make, fragment = BAD_IMAGES[case]
    make(tmp_path / name)
    message = refused("caption", name, "--box", "0,0,2,2", "--heatmap", "heat.png")
    assert fragment in message
    assert f"image {name}" in message


def test_unreadable_image(image: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(*args: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")  # file modes don't bind root

    monkeypatch.setattr(Image, "open", deny)
    assert "permission denied" in refused("caption", image, "--box", "0,0,2,2")


def test_address_for_an_image(refused: Refused) -> None:
    message = refused("caption", "https://example.org/a.png", "--box", "0,0,2,2")
    assert "download the file" in message


def test_name_that_is_no_path(refused: Refused) -> None:
    # Which of the two is said depends on the version of Python.
    for name in ("x" * 5000, "a\0.png"):
        message = refused("caption", name, "--box", "0,0,2,2")
        assert "cannot be read" in message or "does not exist" in message


def test_mask_is_checked_against_the_upright_image(tmp_path: Path, refused: Refused) -> None:
    exif = Image.Exif()
    exif[_ORIENTATION] = 6  # stored 40 x 30, shown 30 x 40
    _grey(tmp_path / "photo.jpg", _noise(30, 40), exif=exif)
    _grey(tmp_path / "m.png", np.full((30, 40), 255, np.uint8))
    message = refused("caption", "photo.jpg", "--mask", "m.png")
    assert "mask m.png is 40 x 30 pixels but the image is 30 x 40" in message
    assert "EXIF" in message
    assert "30 x 40 pixels" in refused("caption", "photo.jpg", "--box", "0,0,40,30")


# --- masks ---------------------------------------------------------------------------------

_SOFT = np.tile(np.arange(0, 240, 6, dtype=np.uint8), (30, 1))
_SOFT[:, -8:] = 255
_TRIMAP = np.zeros((30, 40), np.uint8)
_TRIMAP[5:25, 5:25], _TRIMAP[10:20, 10:20] = 128, 255
_STRAY = np.zeros((30, 40), np.uint8)
_STRAY[5:25, 5:25], _STRAY[0, 0], _STRAY[29, 0] = 255, 3, 7

BAD_MASKS: dict[str, tuple[Image.Image | np.ndarray, str]] = {
    "empty": (np.zeros((30, 40), np.uint8), "mask m.png is empty"),
    "empty 1-bit": (np.zeros((30, 40), bool), "mask m.png is empty"),
    "empty palette": (Image.new("P", (40, 30), 0), "mask m.png is empty"),
    "fully transparent": (Image.new("RGBA", (40, 30), (9, 9, 9, 0)), "fully transparent"),
    "half transparent": (Image.new("RGBA", (40, 30), (9, 9, 9, 128)), "alpha 128"),
    "one grey": (np.full((30, 40), 128, np.uint8), "one value everywhere (the value 128)"),
    "photograph": (_noise(30, 40), "different values from 0 to 255"),
    "soft mask": (_SOFT, "33 different values from 0 to 255: threshold it"),
    "trimap": (_TRIMAP, "the values 0, 128, 255"),
    "stray pixels": (_STRAY, "more of 255 (400 pixels) than of all labels together (2)"),
    "colours": (_noise(30, 40, 3), "is a picture of 1200 colours"),
    "one colour": (Image.new("RGB", (40, 30), "red"), "is a picture of one colour"),
    "16-bit noise": (_noise(30, 40).astype(np.uint16) * 257, "different values from 0 to 65535"),
    "smaller": (np.full((15, 20), 255, np.uint8), "20 x 15 pixels but the image is 40 x 30"),
    "scaled": (np.full((60, 80), 255, np.uint8), "the proportions agree"),
    "turned": (np.full((40, 30), 255, np.uint8), "width and height are swapped"),
    "cropped": (np.full((30, 30), 255, np.uint8), "on this very image"),
}


@pytest.mark.parametrize("case", BAD_MASKS)
def test_bad_mask(case: str, image: Path, tmp_path: Path, refused: Refused) -> None:
    mask, fragment = BAD_MASKS[case]
    picture = mask if isinstance(mask, Image.Image) else Image.fromarray(mask)
    picture.save(tmp_path / "m.png")
    message = refused("caption", image, "--mask", "m.png", "--heatmap", "heat.png")
    assert fragment in message


@pytest.mark.parametrize("case", ["missing", "empty", "text", "truncated PNG", "animated PNG"])
def test_bad_mask_files(case: str, image: Path, tmp_path: Path, refused: Refused) -> None:
    _, make, fragment = BAD_IMAGES[case]
    make(tmp_path / "m.png")
    message = refused("caption", image, "--mask", "m.png")
    assert fragment in message
    assert "mask m.png" in message


def test_no_region(image: Path, refused: Refused) -> None:
    assert "add --mask M.png or --box X0,Y0,X1,Y1" in refused("caption", image)


# --- boxes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("box", "fragment"),
    [
        ("-1,0,9,9", "reaches outside the image, which is 40 x 30 pixels"),
        ("0,0,41,30", "reaches outside"),
        ("0,0,40,30.5", "reaches outside"),
        ("50,50,60,60", "reaches outside"),
        ("9,9,3,3", "expected X0 < X1 and Y0 < Y1"),
        ("3,9,9,3", "expected X0 < X1 and Y0 < Y1"),
        ("3,3,3,9", "expected X0 < X1 and Y0 < Y1"),
        ("0.6,2,1.4,9", "covers no pixel's centre"),
        ("0.1,0.1,0.5,0.5", "looks like fractions"),
        ("nan,0,9,9", "not finite"),
        ("0,0,inf,9", "not finite"),
        ("0,0,9", "found 3 of them"),
        ("0,0,9,9,9", "found 5 of them"),
        ("the dog", "found 1 of them"),
        ("a,b,c,d", "expected four numbers"),
        ("0 0 9 9", "found 1 of them"),
        ("", "found 1 of them"),
    ],
)
def test_bad_box(box: str, fragment: str, image: Path, refused: Refused) -> None:
    assert fragment in refused("caption", image, "--box", box, "--heatmap", "heat.png")


# --- options and outputs -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        (["--steps", "-1"], "steps"),
        (["--steps", "10000000000000"], "steps: expected an integer from 0 to 100000"),
        (["--steps", "1.5"], "--steps: expected int, found '1.5'"),
        (["--lr", "0"], "lr"),
        (["--lr", "-1"], "lr"),
        (["--lr", "nan"], "--lr: expected a finite number, found 'nan'"),
        (["--lr", ".nan"], "lr: expected a finite number, got nan"),
        (["--lr", ".inf"], "lr: expected a finite number, got inf"),
        (["--alpha", "-1"], "alpha"),
        (["--size", "0"], "size"),
        (["--size", "-32"], "size"),
        (["--size", "7"], "size"),
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
        (["--max_new_tokens", "0"], "max_new_tokens"),
        (["--max_new_tokens", "100000"], "ask for at most 37 new tokens"),
        (["--min_new_tokens", "38"], "min_new_tokens=38 is more than the most new tokens, 37"),
        (["--repetition_penalty", "0"], "repetition_penalty must be from 1e-6 to 1e6"),
        (["--no_repeat_ngram_size", "-1"], "no_repeat_ngram_size"),
        (["--bad_words", " "], "bad_words must hold texts that are not blank"),
        (["--opening", "zebra"], "opening: the tokenizer does not know all of 'zebra'"),
        (["--prefix", "nonsense"], "no prefix named 'nonsense'"),
        (["--device", "cuda:99"], "cuda:99"),
        (["--device", "toaster"], "device must be"),
        (["--device", "meta"], "device must be auto, cpu, cuda, cuda:N or mps, got 'meta'"),
        (["--device", "cpu:3"], "device must be auto, cpu, cuda, cuda:N or mps, got 'cpu:3'"),
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
        (["crop", "--steps", "3"], "--steps: an option of maskinversion, not of crop"),
        (["sclip", "--lr", "0.1"], "--lr: an option of maskinversion, not of sclip"),
        (["cls", "--alpha", "0"], "--alpha: an option of maskinversion, not of cls"),
        (["crop", "--heatmap", "heat.png"], "--heatmap: the embedder crop has no relevance map"),
        (["crop", "--size", "7"], "size"),
        (["alphaclip"], "need each other; found no checkpoint"),
        (["crop", "--alphaclip_checkpoint", "a.pth"], "need each other; found the embedder crop"),
        (["alphaclip", "--alphaclip_checkpoint", "none.pth"], "none.pth: no such file"),
        (["alphaclip", "--alphaclip_checkpoint", "image.png"], "weights image.png: expected"),
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
    assert "no command given: expected one of caption, match, embed, eval" in refused()


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
    alpha = ["--embedder", "alphaclip", "--alphaclip_checkpoint", "a.pth", "--output", "./a.pth"]
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
    assert "add --text" in refused("match", image, "--box", "0,0,9,9", *flags)


# --- models --------------------------------------------------------------------------------


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the tiny bundle to damage."""
    return shutil.copytree(tiny_bundle, tmp_path / "bundle")


@pytest.fixture
def refused_model(image: Path, refused: Refused) -> Refused:
    def run(model: object) -> str:
        query = ["caption", image, "--box", "0,0,9,9", "--heatmap", "heat.png"]
        return refused(*query, "--model", model, "--offline")

    return run


def test_unknown_model(refused_model: Refused) -> None:
    message = refused_model("no-such-model")
    assert "'no-such-model'" in message and "expected mini" in message


def test_hub_model_offline(refused_model: Refused) -> None:
    assert "nobody/no-such-model" in refused_model("nobody/no-such-model")


def test_folder_that_is_no_bundle(tmp_path: Path, refused_model: Refused) -> None:
    (tmp_path / "stuff").mkdir()
    assert "stuff" in refused_model(tmp_path / "stuff")
    assert f"missing file: {tmp_path}/config.json" in refused_model(".")


PARTS = [
    "config.json",
    "backbone/open_clip_config.json",
    "backbone/open_clip_model.safetensors",
    "prefix_model/config.json",
    "prefix_model/mappers/default.safetensors",
    "prefix_model/language_model/config.json",
    "prefix_model/language_model/model.safetensors",
    "prefix_model/language_model/tokenizer.json",
]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated"])
def test_damaged_bundle(part: str, damage: str, bundle: Path, refused_model: Refused) -> None:
    file = bundle / part
    whole = file.read_bytes()
    file.unlink()
    if damage != "missing":
        file.write_bytes(whole[: len(whole) // 2] if damage == "truncated" else b"")
    assert str(bundle) in refused_model(bundle)


def test_missing_backbone(bundle: Path, refused_model: Refused) -> None:
    shutil.rmtree(bundle / "backbone")
    assert "backbone" in refused_model(bundle)


@pytest.mark.parametrize(
    "part", ["backbone/open_clip_model.safetensors", "prefix_model/mappers/default.safetensors"]
)
def test_weights_of_another_width(part: str, bundle: Path, refused_model: Refused) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(bundle / part)
    save_file(
        {name: tensor[..., :-1].contiguous() for name, tensor in weights.items() if tensor.ndim},
        bundle / part,
    )
    assert str(bundle) in refused_model(bundle)


def test_prefix_model_of_another_width(bundle: Path, refused_model: Refused) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    from prefix_models.clipcap import ClipCap
    from prefix_models.config import ClipCapConfig
    from prefix_models.words import word_tokenizer

    tokenizer = word_tokenizer(["dog"])
    sizes = {"n_positions": 40, "n_embd": 16, "n_layer": 1, "n_head": 2}
    lm = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), eos_token_id=2, **sizes))
    ClipCap(lm, tokenizer, ClipCapConfig(24)).save_pretrained(bundle / "prefix_model")
    message = refused_model(bundle)
    assert "24" in message and "16" in message


@pytest.mark.parametrize("claim", [("patch_size", [16, 16]), ("mean", [0.4] * 3), ("dim", 24)])
def test_parts_of_different_bundles(
    claim: tuple[str, object], bundle: Path, refused_model: Refused
) -> None:
    config = json.loads((bundle / "config.json").read_text())
    config["backbone"][claim[0]] = claim[1]
    (bundle / "config.json").write_text(json.dumps(config))
    assert claim[0] in refused_model(bundle)


class _Malicious:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_pickled_code_is_not_run(
    writer: str, bundle: Path, tmp_path: Path, refused_model: Refused
) -> None:
    import torch

    weights = bundle / "backbone/open_clip_model.safetensors"
    weights.unlink()
    state = {"logit_scale": _Malicious(tmp_path / "executed")}
    file = weights.with_name("pytorch_model.bin")
    if writer == "torch":
        torch.save(state, file)
    else:
        file.write_bytes(pickle.dumps(state))
    assert str(file) in refused_model(bundle)
    assert not (tmp_path / "executed").exists()


# --- a real process ------------------------------------------------------------------------


@pytest.mark.parametrize("argv", [["caption", "none.png", "--box", "0,0,9,9"], ["caption"], ["x"]])
def test_the_process_itself(argv: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from regionlm.cli import main; sys.exit(main())",
            *argv,
        ],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("regionlm: error: ") and done.stderr.count("\n") == 1
