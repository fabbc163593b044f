"""Questions of one kind and one set of options, answered together by the Python API."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from prefix_models.generation import Heard
from regionlm.embedders.options import ROLLOUT
from regionlm.inputs.views import ImageView
from regionlm.serve.question import Question


class GoneError(Exception):
    """Nobody waits for any of the answers."""


def can_share(model: Any, question: Question) -> bool:
    """Whether others may be worked together with a question: a LLaVA captions one by one, and an
    error would be everybody's."""
    return question.kind != "caption" or hasattr(model, "caption_batch")


def answer(model: Any, questions: Sequence[Question]) -> list[Any]:
    """What the method named by their kind returns for each; raises as that does.

    model: a RegionCaptioner, RegionEncoder or LlavaCaptioner. All questions have one `key`; there
    are several only where they `can_share`.
    """
    return _WORK[questions[0].kind](model, questions)


def _caption(model: Any, questions: Sequence[Question]) -> list[Any]:
    options, heard = questions[0].options, _listeners(questions)
    if not can_share(model, questions[0]):
        [one] = questions
        return [model.caption(one.view, one.regions, heard=heard, **options)]
    views = [question.view for question in questions]
    regions = [question.regions for question in questions]
    found: list[Any] = model.caption_batch(views, regions, heard=heard, **options)
    return found


def say_again(question: Question, found: Any) -> None:
    """Let captions that are known already be heard."""
    for index, caption in enumerate(found if question.kind == "caption" else ()):
        if caption.text:
            question.say(index, caption.text)


def _listeners(questions: Sequence[Question]) -> Heard | None:
    """What tells each question the pieces of its captions, given the regions of all in order."""
    if not any(question.heard for question in questions):
        return None
    rows = [(question, i) for question in questions for i in range(len(question.regions))]

    def heard(row: int, piece: str) -> None:
        question, index = rows[row]
        question.say(index, piece)
        if all(one.is_gone for one in questions):
            raise GoneError

    return heard


def _encode_together(model: Any, questions: Sequence[Question]) -> None:
    """Run the model once on all images; the methods find that in the views."""
    options = questions[0].options
    if len(questions) > 1 and options.get("relevance") != ROLLOUT:
        model.encode_batch(list({id(one.view): one.view for one in questions}.values()), **options)


def _match(model: Any, questions: Sequence[Question]) -> list[Any]:
    _encode_together(model, questions)
    return [model.match(one.view, one.regions, one.texts, **one.options) for one in questions]


def _embed(model: Any, questions: Sequence[Question]) -> list[Any]:
    _encode_together(model, questions)
    return [model.embed(one.view, one.regions, **one.options) for one in questions]


def _explain(model: Any, questions: Sequence[Question]) -> list[Any]:
    _encode_together(model, questions)
    return [
        model.explain(one.view, list(one.regions) or None, texts=one.texts, **one.options)
        for one in questions
    ]


def _encode(model: Any, questions: Sequence[Question]) -> list[ImageView]:
    views = [question.view for question in questions]
    found: list[ImageView] = model.encode_batch(views, **questions[0].options)
    return found


_WORK: dict[str, Callable[[Any, Sequence[Question]], list[Any]]] = {
    "caption": _caption,
    "match": _match,
    "embed": _embed,
    "explain": _explain,
    "encode": _encode,
}
