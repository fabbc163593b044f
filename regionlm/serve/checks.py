"""What a question may ask for, whichever face it came through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefix_models.decoding.options import DEFAULT_MAX_NEW_TOKENS, DecodeOptions, known_at_the_end
from regionlm.embedders.embedder_registry import as_embedder
from regionlm.embedders.options import MASKINVERSION_DEFAULTS, ROLLOUT
from regionlm.errors import InputError
from regionlm.serve.limits import Limits
from regionlm.serve.question import Question


def check_question(question: Question, model: Any, limits: Limits) -> None:
    """Raise UserError for a question beyond a limit, or that the model can't answer."""
    if not hasattr(model, question.kind):
        raise InputError(f"{question.kind}: {model.name} can't do this; ask another model")
    bounds, options = limits.bounds, question.options
    bounds.check_regions(len(question.regions), question.view.size)
    bounds.check_texts(len(question.texts))
    if question.kind == "explain":
        bounds.check_maps(len(question.regions) + len(question.texts), question.view.size)
    _check_lengths("texts", question.texts, limits.max_text_length)
    _check_lengths("caption_start", [options.get("caption_start")], limits.max_text_length)
    for name, most in (
        ("bad_words", limits.max_text_length),
        ("bad_words_ids", limits.max_tokens),
        ("eos_token_id", limits.max_tokens),
    ):
        values = options.get(name)
        if isinstance(values, list | tuple):
            bounds.check_texts(len(values), name)
            _check_lengths(name, values, most)
    most_of = {
        "max_new_tokens": limits.max_tokens,
        "min_new_tokens": limits.max_tokens,
        "steps": limits.max_steps,
        "beam_size": limits.max_beams,
    }
    for name, most in most_of.items():
        value = options.get(name)
        if isinstance(value, int) and value > most:
            raise InputError(f"{name}: expected at most {most} here, found {value}")
    size = options.get("size")
    for side in size if isinstance(size, list | tuple) else [size]:
        if isinstance(side, int) and side > limits.max_size:
            raise InputError(f"size: expected at most {limits.max_size} pixels here, found {side}")
    if question.heard is not None and options.get("decoding") == "beam":
        # also where the answer is known: what others have asked may not decide
        raise known_at_the_end()


def _check_lengths(name: str, values: Sequence[Any], most: int) -> None:
    """Raise InputError for a text, or a list of token ids, that is too long."""
    for value in values:
        if isinstance(value, str | list | tuple) and len(value) > most:
            what = "characters" if isinstance(value, str) else "token ids"
            raise InputError(f"{name}: expected at most {most} {what} each, found {len(value)}")


def within_limits(question: Question, limits: Limits) -> dict[str, Any]:
    """The options of a question that was checked; a default beyond a limit is that limit."""
    options = dict(question.options)
    defaults: dict[str, tuple[int, int]] = {}
    if question.kind == "caption":
        defaults["max_new_tokens"] = (DEFAULT_MAX_NEW_TOKENS, limits.max_tokens)
        if options.get("decoding") == "beam":
            defaults["beam_size"] = (DecodeOptions.beam_size, limits.max_beams)
    inverts = question.regions and options.get("embedder") in (None, "maskinversion")
    if inverts and options.get("relevance") != ROLLOUT:
        defaults["steps"] = (MASKINVERSION_DEFAULTS["steps"], limits.max_steps)
    for name, (default, most) in defaults.items():
        if options.get(name) is None and default > most:
            options[name] = most
    return options


def check_default_size(model: Any, limits: Limits) -> None:
    """Raise InputError for a model whose input is larger than the limit, if nothing is said."""
    side = max(as_embedder("maskinversion", model.backbone).size)
    if side > limits.max_size:
        raise InputError(
            f"max_size: expected at least {side}, the side of {model.name}'s input, found"
            f" {limits.max_size}"
        )
