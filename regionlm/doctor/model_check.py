"""Check of a model: it loads, its weights are finite, its gradient is right, it works."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

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
from regionlm.embedders.localized import Localized
from regionlm.encoder import RegionEncoder
from regionlm.errors import NoCaptionsError
from regionlm.inputs.masks import box_region
from regionlm.llava_captioner import LlavaCaptioner

Examined: TypeAlias = RegionEncoder | LlavaCaptioner

_PICTURE = Path(__file__).with_name("fish.jpg")
_BOX = "108,85,189,151"
_KNOWN = {"mini": "a fish on the sand"}
"""Captions of bundled models; their words are so likely that rounding does not change them."""
_TOKENS = 8  # that an unknown model writes; enough to use its cache


def examine_model(source: str | Path, device: str, offline: bool) -> Iterator[Row]:
    """Load a model and try each of its parts, even if others fail.

    Raises whatever exception prevents loading.
    """
    model = _load(source, device, offline)
    writer = _writer(model)
    yield from run_check("about", lambda: _about(model))
    if writer is not None:
        yield from run_check("language model", lambda: _language_model(writer))
    yield from run_check("weights", lambda: _weights(model))
    yield from run_check("gradient", lambda: _gradient(model))
    if isinstance(model, RegionCaptioner | LlavaCaptioner):
        known = _KNOWN.get(str(source))
        yield from run_check("caption", lambda: _caption(model, known))
    else:
        yield from run_check("region", lambda: _region(model))


def _load(source: str | Path, device: str, offline: bool) -> Examined:
    try:
        return load_captioner(source, device=device, offline=offline)
    except NoCaptionsError:
        return RegionEncoder.from_pretrained(source, device=device, offline=offline)


def _about(model: Examined) -> Iterator[Row]:
    backbone, writer = model.backbone, _writer(model)
    kind = "LLaVA" if isinstance(model, LlavaCaptioner) else "backbone"
    yield Row("kind", "bundle" if isinstance(model, RegionCaptioner) else kind)
    count = sum(parameter.numel() for parameter in _parameters(model).values())
    yield Row("parameters", f"{count:,}")
    yield Row("backbone", f"{backbone.name}, pooling {backbone.pooling}, {_kind(backbone.dtype)}")
    space = "space of the tower" if isinstance(model, LlavaCaptioner) else "joint space"
    yield Row(space, f"{backbone.dim} dimensions")
    yield Row("patch", "{} x {} pixels".format(*backbone.patch_size))
    yield Row("input", "{} x {} pixels".format(*backbone.default_size))
    if writer is None:
        return
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


def _weights(model: Examined) -> Iterator[Row]:
    parameters = _parameters(model)
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


def _gradient(model: Examined) -> Iterator[Row]:
    backbone = model.backbone
    found, most = gradient_difference(backbone, _picture()), tolerance(backbone)
    state: State = "ok" if found <= most else "wrong"  # also for NaN
    yield Row("gradient", f"within {found:.1e} of autograd", f"within {most:.0e}", state)


def _caption(captioner: RegionCaptioner | LlavaCaptioner, known: str | None) -> Iterator[Row]:
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


def _region(model: RegionEncoder) -> Iterator[Row]:
    picture = _picture()
    found = model.embed(picture, [box_region(_BOX, picture.size)])
    assert isinstance(found, Localized)  # what maskinversion, the default, gives
    yield Row("region", f"Dice {found.dice.item():.2f}", note="of a fish on sand; 1 at best")


def _writer(model: Examined) -> PrefixGenerator | None:
    if isinstance(model, RegionCaptioner):
        return model.prefix_model
    return model.reader if isinstance(model, LlavaCaptioner) else None


def _modules(model: Examined) -> Iterable[tuple[str, nn.Module]]:
    if isinstance(model, LlavaCaptioner):
        yield "model", model.reader.lm
        return
    yield "backbone", model.backbone.model
    if isinstance(model, RegionCaptioner):
        yield "prefix_model", model.prefix_model


def _parameters(model: Examined) -> dict[str, nn.Parameter]:
    return {
        f"{part}.{name}": parameter
        for part, module in _modules(model)
        for name, parameter in module.named_parameters()
    }


def _kind(dtype: object) -> str:
    return str(dtype).removeprefix("torch.")
