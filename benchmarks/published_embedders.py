"""Hold our embedders against the authors' code on random weights.

    git clone https://github.com/xmed-lab/CLIP_Surgery
    python benchmarks/published_embedders.py CLIP_Surgery

Give any of the checkouts (CLIP_Surgery, SCLIP, AlphaCLIP, Zero-shot-RIS, MaskCLIP, FGVP, under
these names); their modules are loaded from there, with stand-ins for what they import and don't
use. MaskCLIP also needs mmcv 1.x, FGVP OpenCV. Exit code 1 if a method differs.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import embedder_cases as cases
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from regionlm.backbones import ClipViT
from regionlm.embedders import make_embedder

REFERENCE = Path(__file__).parents[1] / "tests/regionlm/embedders/reference/published.npz"
BAR = 1e-5  # largest difference of unit vectors' coordinates, float32 on both sides
Rows = dict[str, tuple[np.ndarray, np.ndarray]]  # what is compared: (theirs, ours)


@contextmanager
def stand_ins(**modules: Any) -> Iterator[None]:
    """Modules that a published file imports, replaced while it is loaded."""
    names = {name.replace("__", "."): module for name, module in modules.items()}
    before = {name: sys.modules.get(name) for name in names}
    sys.modules.update(names)
    try:
        yield
    finally:
        for name, module in before.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module


def module_of(**contents: Any) -> ModuleType:
    """A module that holds nothing but ``contents``."""
    module = ModuleType("stand_in")
    vars(module).update(contents)
    return module


def load(path: Path) -> ModuleType:
    """Run one file of a checkout as a module of its own."""
    spec = importlib.util.spec_from_file_location(f"original_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tower(module: ModuleType, state: dict[str, Tensor]) -> Any:
    """The checkout's own image tower with these weights, every one of them used."""
    visual = module.VisionTransformer(cases.SIDE, cases.PATCH, cases.WIDTH, 12, 2, cases.DIM)
    visual.load_state_dict(state, strict=True)
    return visual.eval()


def unit(vectors: Tensor) -> np.ndarray:
    """Rows scaled to length 1."""
    return F.normalize(vectors, dim=-1).numpy()


# --- one function per checkout --------------------------------------------------------------------


def clip_surgery(checkout: Path) -> Rows:
    """The tower after surgery: all tokens, of which the first is the image embedding."""
    model = cases.openai_model()
    original = tower(load(checkout / "clip/clip_surgery_model.py"), model.visual.state_dict())
    tokens = original(cases.pixels()[None])[0]
    image = ClipViT(model).embed_images(cases.pixels()[None])
    return {
        "clip_surgery": (unit(tokens[1:]), unit(cases.ours("clip_surgery"))),
        "clip_surgery, image": (unit(tokens[:1]), unit(image)),
    }


def sclip(checkout: Path) -> Rows:
    """All tokens of the tower with correlative self-attention."""
    original = tower(load(checkout / "clip/model.py"), cases.openai_model().visual.state_dict())
    tokens = original(cases.pixels()[None], return_all=True, csa=True)[0]
    return {"sclip": (unit(tokens[1:]), unit(cases.ours("sclip")))}


def maskclip(checkout: Path) -> Rows:
    """Values of the last layer, through the head's projection."""
    path = str(checkout / "mmseg")
    names = ["mmseg", "mmseg.ops", "mmseg.utils", "mmseg.models", "mmseg.models.utils"]
    packages = {name: module_of() for name in [*names, "mmseg.models.backbones"]}
    for name, package in packages.items():  # without their __init__, which imports all of mmcv
        package.__path__ = [path + name.removeprefix("mmseg").replace(".", "/")]
    with stand_ins(**{name.replace(".", "__"): package for name, package in packages.items()}):
        packages["mmseg.utils"].get_root_logger = None
        wrappers = importlib.import_module("mmseg.ops.wrappers")
        packages["mmseg.ops"].resize = wrappers.resize
        embed = importlib.import_module("mmseg.models.utils.embed")
        packages["mmseg.models.utils"].PatchEmbed = embed.PatchEmbed
        vit = importlib.import_module("mmseg.models.backbones.vit")
    original = vit.VisionTransformer(  # as configs/_base_/models/maskclip_vit16.py, but for sizes
        img_size=(cases.SIDE, cases.SIDE), patch_size=cases.PATCH, patch_bias=False,
        embed_dims=cases.WIDTH, num_layers=12, num_heads=2, norm_cfg={"type": "LN", "eps": 1e-6},
        pre_norm=True, final_norm=True, return_qkv=True,
    )  # fmt: skip
    state = cases.maskclip_model().visual.state_dict()
    projection = state.pop("proj")
    original.load_state_dict({_maskclip_name(k): v for k, v in state.items()}, strict=False)
    original.cls_token.data = state["class_embedding"][None, None]
    original.pos_embed.data = state["positional_embedding"][None]
    original.eval()  # returns nothing there
    values = original(cases.pixels()[None])[0][3]
    tokens = values[0].flatten(1).T @ projection
    return {"maskclip": (unit(tokens), unit(cases.ours("maskclip")))}


def _maskclip_name(key: str) -> str:
    """The names of tools/maskclip_utils/convert_clip_weights.py."""
    for ours, theirs in (
        ("conv1.weight", "patch_embed.projection.weight"), ("ln_pre", "ln0"), ("ln_post", "ln1"),
        ("transformer.resblocks", "layers"), ("mlp.c_fc", "ffn.layers.0.0"),
        ("mlp.c_proj", "ffn.layers.1"), ("attn.", "attn.attn."), ("ln_1", "ln1"), ("ln_2", "ln2"),
    ):  # fmt: skip
        key = key.replace(ours, theirs)
    return key


def ris(checkout: Path) -> Rows:
    """Global features under masks on the grid, and the embedding of a crop."""
    clip = load(checkout / "third_party/modified_CLIP/clip/model.py")
    model = cases.openai_model()
    visual = tower(clip, model.visual.state_dict())
    held = SimpleNamespace(visual=visual, dtype=torch.float32)
    loader = module_of(load=lambda name: (held, None))
    with stand_ins(clip=loader, einops=module_of(rearrange=None)):
        original = load(checkout / "model/backbone.py").CLIPViTFM("ViT-B/16")
    pixels = cases.pixels()[None]
    coverage = F.avg_pool2d(cases.masks().float(), cases.PATCH)
    found = original(pixels, coverage, masking_type="token_masking", masking_block=9)
    crop = original(pixels, None, masking_type="crop")
    return {
        "ris, global feature": (unit(found), unit(cases.ours("ris", v=1.0))),
        "ris, crop's feature": (unit(crop), unit(ClipViT(model).embed_images(pixels))),
    }


def alphaclip(checkout: Path) -> Rows:
    """The tower with alpha, its weights brought to us as the published checkpoints are."""
    with stand_ins(loralib=module_of()):
        module = load(checkout / "alpha_clip/model.py")
    state = cases.openai_model().visual.state_dict()
    state = {k.replace("attn.in_proj_", "attn.in_proj."): v for k, v in state.items()}
    original = tower(module, {**state, "conv1_alpha.weight": cases.alpha_weight()})
    masks = cases.masks()
    alphas = (masks.float()[:, None] - 0.5) / 0.26
    found = original(cases.pixels().expand(len(masks), -1, -1, -1), alphas)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "visual.pth"
        torch.save(original.state_dict(), checkpoint)
        ours = cases.ours("alphaclip", checkpoint=checkpoint)
    return {"alphaclip": (unit(found), unit(ours))}


def fgvp(checkout: Path) -> Rows:
    """Pictures, not vectors: blurred outside the mask, crops, and the ellipse by its distance."""
    folder = checkout / "fgvp-reclip"
    with stand_ins(
        segment_anything=module_of(), segment_anything__utils=module_of(),
        segment_anything__utils__transforms=module_of(ResizeLongestSide=object),
    ):  # fmt: skip
        transforms = load(folder / "transforms.py")
    with stand_ins(transforms=transforms):
        module = load(folder / "fine_grained_visual_prompt.py")
    same = SimpleNamespace(
        apply_image=lambda image: image,
        apply_coords_torch=lambda coordinates, size: coordinates,
        apply_boxes_torch=lambda boxes, size: boxes,
    )
    original = module.FGVP_ENSEMBLE(
        "red", 2, "black", 0.5, "padding", max(cases.PICTURE_HW), same, 0.0, 1.0, 100
    )
    image, masks = cases.picture(), cases.picture_masks()
    boxes = torch.stack([_corners(mask) for mask in masks])

    def theirs(prompt: str, boxes: Tensor = boxes) -> list[np.ndarray]:
        found = original(prompt, image, boxes[:, :2], boxes.clone(), masks[:, None])
        return list(found[:, :, : image.shape[0]].permute(0, 2, 3, 1).numpy())

    def mine(name: str, **options: Any) -> list[np.ndarray]:
        black = ClipViT(cases.openai_model(), mean=(0.0, 0.0, 0.0))
        embedder: Any = make_embedder(name, black, **options)
        return [np.asarray(p) for p in embedder.pictures(Image.fromarray(image), masks)]

    def crops(prompt: str, name: str, **options: Any) -> tuple[np.ndarray, np.ndarray]:
        """All pixels of all crops in a row; theirs end in zeros."""
        found = mine(name, **options)
        padded = theirs(prompt, boxes + torch.tensor([0, 0, 1, 1]))  # ends exclusive
        same = [
            one[: len(other), : other.shape[1]] for one, other in zip(padded, found, strict=True)
        ]
        return np.concatenate([p.ravel() for p in same]), np.concatenate([p.ravel() for p in found])

    blurred = theirs("blur_mask")
    gaps = [_gap(*pair, image) for pair in zip(theirs("circle"), mine("red_circle",
            thickness=2 / min(cases.PICTURE_HW)), strict=True)]  # fmt: skip
    print(f"red_circle: its line and FGVP's version of it are within {max(gaps):.1f} pixels")
    return {
        "fgvp": (cases.sample(blurred), cases.sample(mine("fgvp"))),
        "fgvp, every pixel": (np.stack(blurred), np.stack(mine("fgvp"))),
        "crop": crops("crop", "crop"),
        "masked_crop of the box": crops("ov_seg", "masked_crop", extent="box"),
    }


def _corners(mask: Tensor) -> Tensor:
    rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
    return torch.tensor([columns[0], rows[0], columns[-1], rows[-1]]).float()


def _gap(theirs: np.ndarray, ours: np.ndarray, image: np.ndarray) -> float:
    """The largest distance, in pixels, from a painted pixel on one side to the nearest on the
    other."""
    lines = [torch.tensor(np.argwhere((p != image).any(2))).float() for p in (theirs, ours)]
    distances = torch.cdist(*lines)
    return float(max(distances.min(0).values.max(), distances.min(1).values.max()))


# --------------------------------------------------------------------------------------------------

METHODS: dict[str, Callable[[Path], Rows]] = {
    "CLIP_Surgery": clip_surgery,
    "SCLIP": sclip,
    "MaskCLIP": maskclip,
    "Zero-shot-RIS": ris,
    "AlphaCLIP": alphaclip,
    "FGVP": fgvp,
}


def main() -> int:
    """Compare, print a row each, and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkouts", nargs="+", type=Path, help=", ".join(METHODS))
    parser.add_argument("--write", action="store_true", help=f"renew {REFERENCE.name} (all six)")
    options = parser.parse_args()
    rows: Rows = {}
    for checkout in options.checkouts:
        if checkout.name not in METHODS:
            parser.error(f"{checkout}: expected a folder named {', '.join(METHODS)}")
        with torch.no_grad():
            rows |= METHODS[checkout.name](checkout.resolve())
    worst = 0.0
    for name, (theirs, ours) in rows.items():
        difference = float(np.abs(theirs.astype(np.float64) - ours).max())
        spread = float(theirs.std(0).mean())  # of the references: near 0 they would prove nothing
        worst = max(worst, difference)
        print(f"{name}: {theirs.shape}, largest difference {difference:.1e}, spread {spread:.2g}")
    if options.write:
        keys = ("clip_surgery", "sclip", "maskclip", "ris, global feature", "alphaclip", "fgvp")
        kept = {key.split(",")[0]: rows[key][0] for key in keys}
        kept["fgvp"] = kept["fgvp"].astype(np.uint8)
        REFERENCE.parent.mkdir(exist_ok=True)
        np.savez_compressed(REFERENCE, **kept)
        print(f"wrote {REFERENCE}: {REFERENCE.stat().st_size} bytes")
    return int(worst > BAR)


if __name__ == "__main__":
    sys.exit(main())
