"""Replies in the form of OpenAI's chat completions, whole and in pieces."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from prefix_models.decoding.options import DEFAULT_MAX_NEW_TOKENS
from regionlm.serve.openai.stop_words import cut

if TYPE_CHECKING:
    from regionlm.captioner import RegionCaption

Finish = Literal["stop", "length"]
"""Why a text ends: by itself, or at the most tokens that it may have."""


def line_start(index: int, region: str, is_named: bool) -> str:
    """What stands before the caption of a region, from the second on a new line."""
    return ("\n" if index else "") + (f"{region}: " if is_named else "")


def one_line(text: str, is_named: bool) -> str:
    """A caption, or a piece of one: without line breaks where each region has its line."""
    return "".join(" " if one.isspace() else one for one in text) if is_named else text


@dataclass(frozen=True)
class Answered:
    """The captions of all regions, and what a reply says of them.

    Args:
        captions: in order.
        is_named: whether each line begins with its region's name.
        stop: words that end a text.
        model: what has written them.
        most_tokens: that each could have.
    """

    captions: Sequence[RegionCaption]
    is_named: bool
    stop: Sequence[str]
    model: Any
    most_tokens: int | None

    def text(self) -> str:
        """A line for each region; of a single one its caption alone."""
        lines = [
            line_start(index, one.region, self.is_named)
            + one_line(cut(one.text, self.stop)[0], self.is_named)
            for index, one in enumerate(self.captions)
        ]
        return "".join(lines)

    def finish(self) -> Finish:
        """`length` if any caption was cut off there."""
        return "length" if any(map(self._is_cut_off, self.captions)) else "stop"

    def usage(self) -> dict[str, int]:
        """Tokens before the text, for each region those that the model reads, and of the text."""
        before = getattr(_writer(self.model), "context_length", 0) * len(self.captions)
        written = sum(len(one.generation.token_ids) for one in self.captions)
        counts = {"prompt_tokens": before, "completion_tokens": written}
        return {**counts, "total_tokens": before + written}

    def more(self) -> dict[str, Any]:
        """What OpenAI's form has no place for, as the native API has it: what is not exact, and
        each region."""
        rows = [one.to_dict() for one in self.captions]
        return {**self.model.backbone.trunk_options.record, "regions": rows}

    def _is_cut_off(self, caption: RegionCaption) -> bool:
        ids = caption.generation.token_ids
        most = most_new_tokens(self.model, self.most_tokens)
        has_ended = bool(ids) and ids[-1] == _writer(self.model).stop_id
        return len(ids) >= most and not has_ended and not cut(caption.text, self.stop)[1]


def most_new_tokens(model: Any, wanted: int | None) -> int:
    """How many tokens a caption can have: as many as wanted, if the model has room for them."""
    room = getattr(_writer(model), "room", None) if hasattr(model, "prefix_model") else None
    most = DEFAULT_MAX_NEW_TOKENS if wanted is None else wanted
    return most if room is None else min(most, room)


def _writer(model: Any) -> Any:
    """What writes the text: of a LLaVA its reader."""
    return model.prefix_model if hasattr(model, "prefix_model") else model.reader


@dataclass(frozen=True)
class Form:
    """What all parts of a reply have.

    Args:
        id: of the request.
        model: its name.
        as_lists: write pieces as Describe Anything's server does: lists of parts.
    """

    id: str
    model: str
    as_lists: bool = False
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, answered: Answered) -> dict[str, Any]:
        """The reply, in one."""
        message = {"role": "assistant", "content": answered.text(), "refusal": None}
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": answered.finish(),
        }
        return {
            **self._head("chat.completion"),
            "choices": [choice],
            "usage": answered.usage(),
            **answered.more(),
        }

    def first(self) -> bytes:
        """The event before the text."""
        return self._event({"role": "assistant", "content": [] if self.as_lists else ""})

    def piece(self, text: str) -> bytes:
        """The event with a piece of the text."""
        content = [{"type": "text", "text": text}] if self.as_lists else text
        return self._event({"content": content})

    def last(self, answered: Answered, with_usage: bool) -> bytes:
        """The events after the text."""
        end = self._event({}, answered.finish(), **answered.more())
        if with_usage:
            head = self._head("chat.completion.chunk")
            end += event({**head, "choices": [], "usage": answered.usage()})
        return end + b"data: [DONE]\n\n"

    def _head(self, kind: str) -> dict[str, Any]:
        names = {"id": f"chatcmpl-{self.id}", "object": kind}
        return {**names, "created": self.created, "model": self.model}

    def _event(self, delta: dict[str, Any], finish: Finish | None = None, **more: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return event({**self._head("chat.completion.chunk"), "choices": [choice], **more})


def event(data: dict[str, Any]) -> bytes:
    """A server-sent event."""
    return f"data: {json.dumps(data)}\n\n".encode()
