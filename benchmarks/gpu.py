"""What `gpu.sh` runs: equality of a device with the CPU first, then times, in Markdown.

Equality: MaskInversion's vectors on the device, in float32, beside those of the CPU in float64 and
in float32 (seeded ViT-B/16; the median cosine must be 0.99999, the least 0.999, as in engine.py),
and the captions of `mini` on both. The exit code is 1 if they differ. Times are of one call for one
image, its forward included, medians of a few; models have random weights. What is not begun before
the time is up is listed as not run.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "0")

import open_clip
import torch
from PIL import Image
from published.cases import build_model, image_array, mask_arrays
from published.compare import MIN_COSINE, cosines
from torch import Tensor

from regionlm import ClipViT, MaskInversion, RegionCaptioner
from regionlm.bulk import caption_manifest
from regionlm.devices import resolve_device
from regionlm.errors import UserError

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SCENES = ("sand", "snow")
LEAST_COSINE = 0.999
TINY = {"embed_dim": 32, "vision_cfg": {
    "layers": 3, "width": 64, "patch_size": 8, "image_size": 64, "head_width": 16}}  # fmt: skip
TEXT = {"context_length": 8, "vocab_size": 16, "width": 16, "heads": 1, "layers": 1}
WAYS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "exact": ({}, {}),
    "fast": ({"speed": "fast"}, {}),
    "exact, bfloat16 trunk": ({}, {"precision": "bfloat16"}),
    "fast, bfloat16 trunk": ({"speed": "fast"}, {"precision": "bfloat16"}),
    "exact, compiled trunk": ({}, {"compile": True}),
}
"""Options of MaskInversion, and of the trunk."""


@dataclass
class Clock:
    """When the time is up, and what was not begun by then."""

    seconds: float
    began: float = field(default_factory=time.monotonic)
    left_out: list[str] = field(default_factory=list)

    def allows(self, what: str) -> bool:
        """Whether to begin; if not, it is remembered."""
        if time.monotonic() - self.began < self.seconds:
            return True
        self.left_out.append(what)
        return False


def main() -> int:
    """Print everything; 1 if the device finds something else than the CPU."""
    options = _options()
    device = resolve_device(options.device)
    clock = Clock(options.seconds)
    print(f"{_named(device)}, torch {torch.__version__}, {time.strftime('%Y-%m-%d')}\n", flush=True)
    differ = [not vectors(device, options.tiny), not captions(device)]
    sizes = {"tiny": 64} if options.tiny else {"ViT-B-16": 448, "ViT-L-14": 448, "ViT-H-14": 448}
    print("| model | way | masks | seconds | masks/s | GiB beyond the model | cosine to exact |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for name, size in sizes.items():
        times(name, size, device, clock, counts=(1, 10) if options.tiny else (1, 10, 100))
    if clock.allows("bulk"):
        bulk(device, images=4 if options.tiny else 400)
    for one in clock.left_out:
        print(f"- not run, the time was up: {one}")
    return int(any(differ))


def vectors(device: torch.device, tiny: bool) -> bool:
    """Whether the device's vectors are the CPU's; prints the cosines."""
    name, size, count = ("tiny", 64, 3) if tiny else ("ViT-B-16", 224, 7)
    found = {}
    for place, kind in (("cpu", "float64"), ("cpu", "float32"), (device, "float32")):
        with _without_tf32():
            backbone = ClipViT(build_model(name, kind)).to(place)
            pixels = backbone.preprocess(Image.fromarray(image_array()), size)
            result = MaskInversion(backbone, size=size)(pixels, mask_arrays(count))
        found[f"{place} {kind}"] = result.embeddings.double().cpu().numpy()
    *references, ours = found
    good = True
    for reference in references:
        near = cosines(found[reference], found[ours])
        median = statistics.median(near.tolist())
        good &= median >= MIN_COSINE and near.min() >= LEAST_COSINE
        print(
            f"- {name}, {size} px, {count} masks, {ours} beside {reference}: median cosine"
            f" {median:.8f}, least {near.min():.8f}"
        )
    print(f"- vectors: {'equal' if good else 'DIFFERENT'}", flush=True)
    return good


def captions(device: torch.device) -> bool:
    """Whether `mini` says the same of the examples; prints the share."""
    texts = []
    for place in (torch.device("cpu"), device):
        mini = RegionCaptioner.from_pretrained("mini", device=place, offline=True)
        asked = [(EXAMPLES / f"{one}.png", EXAMPLES / f"{one}-labels.png") for one in SCENES]
        texts.append([found.text for scene in asked for found in mini.caption(*scene)])
    same = sum(a == b for a, b in zip(*texts, strict=True))
    print(f"- captions of mini: {same} of {len(texts[0])} equal\n", flush=True)
    return same == len(texts[0])


def times(
    name: str, size: int, device: torch.device, clock: Clock, counts: tuple[int, ...]
) -> None:
    """A line for each way and number of masks."""
    if not clock.allows(name):
        return
    backbone = _random(name, device)
    pixels = backbone.preprocess(Image.fromarray(image_array()), size).to(device)
    exact: dict[int, Tensor] = {}
    for way, (inversion, trunk) in WAYS.items():
        try:
            backbone.set_trunk(**trunk)
        except UserError as error:
            print(f"| {name} | {way} | not possible: {error} | | | | |", flush=True)
            continue
        embedder = MaskInversion(backbone, size=size, **inversion)
        for count in counts:
            if not clock.allows(f"{name}, {way}, {count} masks"):
                continue
            masks = torch.from_numpy(mask_arrays(count)).to(device)
            seconds, gib, found = _timed(lambda: embedder(pixels, masks).embeddings, device)  # noqa: B023
            near = cosines(exact.setdefault(count, found).cpu().numpy(), found.cpu().numpy())
            print(
                f"| {name}, {size} px | {way} | {count} | {seconds:.4f} | {count / seconds:.1f} |"
                f" {gib} | {near.mean():.6f}, least {near.min():.6f} |",
                flush=True,
            )


def bulk(device: torch.device, images: int) -> None:
    """Images a second of a manifest of the examples, three regions each, with `mini`."""
    for trunk in ({}, {"precision": "bfloat16"}):
        with tempfile.TemporaryDirectory() as folder:
            manifest = Path(folder) / "m.jsonl"
            lines = [
                {"image": str(EXAMPLES / f"{scene}.png"),
                 "regions": [{"mask": str(EXAMPLES / f"{scene}-labels.png")}]}
                for scene in (SCENES[number % len(SCENES)] for number in range(images))
            ]  # fmt: skip
            manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
            summary = caption_manifest(
                manifest, Path(folder) / "out.jsonl", device=str(device), workers=4, offline=True,
                trunk=trunk, progress=False,
            )  # fmt: skip
        kind = trunk.get("precision", "float32")
        print(f"\nBulk, mini, {kind} trunk: {summary}", flush=True)


def _timed(call: Callable[[], Tensor], device: torch.device) -> tuple[float, str, Tensor]:
    """Median of the seconds, the peak of memory, and the result; the first call is not timed."""
    found = call()
    seconds = []
    before = _reset_peak(device)
    for _ in range(3):
        _wait(device)
        began = time.perf_counter()
        found = call()
        _wait(device)
        seconds.append(time.perf_counter() - began)
    gib = "" if before is None else f"{(torch.cuda.max_memory_allocated() - before) / 2**30:.2f}"
    return statistics.median(seconds), gib, found


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        getattr(torch, device.type).synchronize()


def _reset_peak(device: torch.device) -> int | None:
    if device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def _random(name: str, device: torch.device) -> ClipViT:
    """A model of open_clip's with random weights, made on the device, its text tower tiny."""
    config = TINY if name == "tiny" else open_clip.get_model_config(name)
    torch.manual_seed(0)
    with device:
        model = open_clip.CLIP(config["embed_dim"], config["vision_cfg"], TEXT).eval()
    return ClipViT(model, name=name)


@contextmanager
def _without_tf32() -> Iterator[None]:
    """cuDNN takes convolutions, such as that of the patches, in TF32 unless told not to."""
    with torch.backends.cudnn.flags(allow_tf32=False):
        yield


def _named(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--device", default="cuda", help="any that regionlm takes")
    add("--tiny", action="store_true", help="a tiny model instead, to try the script itself")
    add("--seconds", type=float, default=360, help="begin nothing after this time")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
