"""Check of a model: it loads, its weights are finite, its gradient is right, it captions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from torch import nn

from prefix_models.clipcap.model import ClipCap
from prefix_models.generation import PrefixGenerator
from prefix_models.lm.calling import calling_of, display_name
from regionlm.auto import load_captioner
from regionlm.captioner import RegionCaptioner
from regionlm.doctor.diagnosis import Row, State
from regionlm.doctor.gradient import gradient_difference, tolerance
from regionlm.doctor.run_check import run_check
from regionlm.inputs.masks import box_region

if TYPE_CHECKING:
    from regionlm.llava_captioner import LlavaCaptioner

    Captioner = RegionCaptioner | LlavaCaptioner

_PICTURE = Path(__file__).with_name("fish.jpg")
_BOX = "108,85,189,151"
_KNOWN = {"mini": "a fish on the sand"}
"""Captions of bundled models; their words are so likely that rounding does not change them."""
_TOKENS = 8  # that an unknown model writes; enough to use its cache


def examine_model(source: str | Path, device: str, offline: bool) -> Iterator[Row]:
    """Load a model and try each of its parts, even if others fail.

    Raises whatever exception prevents loading.
    """
    captioner = load_captioner(source, device=device, offline=offline)
    yield from run_check("about", lambda: _about(captioner))
    yield from run_check("language model", lambda: _language_model(_writer(captioner)))
    yield from run_check("weights", lambda: _weights(captioner))
    yield from run_check("gradient", lambda: _gradient(captioner))
    known = _KNOWN.get(str(source))
    yield from run_check("caption", lambda: _caption(captioner, known))


def _about(captioner: Captioner) -> Iterator[Row]:
    backbone, writer = captioner.backbone, _writer(captioner)
    yield Row("kind", "bundle" if isinstance(captioner, RegionCaptioner) else "LLaVA")
    count = sum(parameter.numel() for parameter in _parameters(captioner).values())
    yield Row("parameters", f"{count:,}")
    yield Row("backbone", f"{backbone.name}, pooling {backbone.pooling}, {_kind(backbone.dtype)}")
    space = "joint space" if isinstance(captioner, RegionCaptioner) else "space of the tower"
    yield Row(space, f"{backbone.dim} dimensions")
    yield Row("patch", "{} x {} pixels".format(*backbone.patch_size))
    yield Row("input", "{} x {} pixels".format(*backbone.default_size))
    kind = type(writer).__name__
    if isinstance(writer, ClipCap):
        others = [name for name in writer.prefixes if name != writer.prefix_name]
        kind += f", prefix {writer.prefix_name}"
        kind += f" (also {', '.join(others)})" if others else ""
    yield Row("prefix model", kind)


def _language_model(writer: PrefixGenerator) -> Iterator[Row]:
    weight = writer.lm.get_input_embeddings().weight
    yield Row("language model", f"{display_name(writer.lm)}, {_kind(weight.dtype)}")
    calling = calling_of(writer.lm)
    if calling.cache is None:
        note = "it reads the whole text again for each token, which is right but slow"
        yield Row("cache", "none", state="note", note=note)
    else:
        yield Row("cache", calling.cache)
    told = "with" if calling.takes_positions else "without"
    asked = "the last position" if calling.keeps_last else "all positions"
    yield Row("called", f"{told} positions, for scores of {asked}")


def _weights(captioner: Captioner) -> Iterator[Row]:
    parameters = _parameters(captioner)
    damaged = [
        name
        for name, one in parameters.items()
        if one.is_floating_point() and not one.detach().isfinite().all()
    ]
    if not damaged:
        yield Row("weights", "finite", "finite")
        return
    more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
    note = f"{damaged[0]}{more}; the weights are damaged, download them again"
    yield Row("weights", "not finite", "finite", "wrong", note)


def _gradient(captioner: Captioner) -> Iterator[Row]:
    backbone = captioner.backbone
    found, most = gradient_difference(backbone, _picture()), tolerance(backbone)
    state: State = "ok" if found <= most else "wrong"  # also for NaN
    yield Row("gradient", f"within {found:.1e} of autograd", f"within {most:.0e}", state)


def _caption(captioner: Captioner, known: str | None) -> Iterator[Row]:
    picture = _picture()
    region = box_region(_BOX, picture.size)
    count = None if known else _TOKENS
    (found,) = captioner.caption(picture, [region], max_new_tokens=count)
    text = json.dumps(found.text, ensure_ascii=False)
    if known is None:
        yield Row("caption", text, note=f"at most {_TOKENS} tokens about a fish on sand")
        return
    wanted = json.dumps(known)
    yield Row("caption", text, wanted, "ok" if found.text == known else "wrong")


def _picture() -> Image.Image:
    with Image.open(_PICTURE) as picture:
        return picture.convert("RGB")


def _writer(captioner: Captioner) -> PrefixGenerator:
    if isinstance(captioner, RegionCaptioner):
        return captioner.prefix_model
    return captioner.reader


def _modules(captioner: Captioner) -> Iterable[tuple[str, nn.Module]]:
    if isinstance(captioner, RegionCaptioner):
        yield "backbone", captioner.backbone.model
        yield "prefix_model", captioner.prefix_model
    else:
        yield "model", captioner.reader.lm


def _parameters(captioner: Captioner) -> dict[str, nn.Parameter]:
    return {
        f"{part}.{name}": parameter
        for part, module in _modules(captioner)
        for name, parameter in module.named_parameters()
    }


def _kind(dtype: object) -> str:
    return str(dtype).removeprefix("torch.")
