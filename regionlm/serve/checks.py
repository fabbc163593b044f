"""What a question may ask for, whichever face it came through."""

from __future__ import annotations

from typing import Any

from regionlm.errors import InputError
from regionlm.serve.limits import Limits
from regionlm.serve.question import Question


def check_question(question: Question, model: Any, limits: Limits) -> None:
    """Raise InputError for a question beyond a limit, or of a kind that the model can't answer."""
    if not hasattr(model, question.kind):
        raise InputError(f"{question.kind}: {model.name} can't do this; ask another model")
    limits.bounds.check_regions(len(question.regions), question.view.size)
    limits.bounds.check_texts(len(question.texts))
    for text in question.texts:
        if len(text) > limits.max_text_length:
            raise InputError(
                f"texts: expected at most {limits.max_text_length} characters each, found"
                f" {len(text)}"
            )
    bounds = {
        "max_new_tokens": limits.max_tokens,
        "min_new_tokens": limits.max_tokens,
        "steps": limits.max_steps,
        "beam_size": limits.max_beams,
    }
    for name, most in bounds.items():
        value = question.options.get(name)
        if isinstance(value, int) and value > most:
            raise InputError(f"{name}: expected at most {most} here, found {value}")
    size = question.options.get("size")
    for side in size if isinstance(size, list | tuple) else [size]:
        if isinstance(side, int) and side > limits.max_size:
            raise InputError(f"size: expected at most {limits.max_size} pixels here, found {side}")
