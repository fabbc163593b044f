"""What a chat request looks like, and what of it has a meaning here."""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, Literal

from regionlm.extras import extra
from regionlm.serve.errors import MalformedError, ServiceError, UnusableError
from regionlm.serve.option_models import Form
from regionlm.serve.reading import refusal

with extra("serve"):
    from pydantic import BeforeValidator, ConfigDict, Field, ValidationError

ANY_MODEL = "describe_anything_model"
"""The name by which Describe Anything's own clients call whatever their server has."""
_LEAST_TEMPERATURE = 1e-6
"""Below it, sampling would be greedy, and scores would overflow."""

_IGNORED = {
    *("user", "metadata", "service_tier", "safety_identifier", "store"),
    *("prompt_cache_key", "prompt_cache_retention"),
}
"""Fields that change nothing in an answer."""
_HARMLESS: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (False, True),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
}
"""Fields that this service has nothing for, with the values that ask for nothing."""


class UnknownModelError(ServiceError):
    """A request for a model that this service does not have."""

    status, type, code = 404, "invalid_request_error", "model_not_found"


class _Part(Form):
    """Fields that are not known are ignored here, as OpenAI's clients send new ones."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="ignore")


class ImageUrl(_Part):
    """Where an image is."""

    url: str


class ContentPart(_Part):
    """A text or an image; what an assistant refused is read over."""

    type: Literal["text", "image_url", "refusal"]
    text: str = ""
    image_url: ImageUrl | None = None


def _as_parts(content: Any) -> Any:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [] if content is None else content


class Message(_Part):
    """A turn of the conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[list[ContentPart], BeforeValidator(_as_parts)] = Field(default_factory=list)


class StreamOptions(_Part):
    """What a stream says besides the text."""

    include_usage: bool = False


def _as_list(words: Any) -> Any:
    if words is None:
        return []
    return [words] if isinstance(words, str) else words


Word = Annotated[str, Field(min_length=1, max_length=1000)]
Words = Annotated[list[Word], BeforeValidator(_as_list)]


class ChatRequest(_Part):
    """The fields of a request that have a meaning here; see OpenAI's reference for theirs."""

    model: str
    messages: list[Message] = Field(min_length=1)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: Words = Field(default_factory=list, max_length=16)

    def decoding(self, most_tokens: int) -> dict[str, Any]:
        """Options of decoding. Without temperature and top_p it is greedy, as everywhere here.

        most_tokens: more are not written, whatever is asked for: clients ask for what would do for
            an essay.
        """
        options: dict[str, Any] = {}
        wanted = self.max_completion_tokens or self.max_tokens
        if wanted is not None:
            options["max_new_tokens"] = min(wanted, most_tokens)
        temperature = 1.0 if self.temperature is None else self.temperature
        is_asked = self.temperature is not None or self.top_p is not None
        if not is_asked or temperature < _LEAST_TEMPERATURE:
            return options
        options |= {"decoding": "sample", "temperature": temperature, "top_p": self.top_p or 1.0}
        if self.seed is not None:
            options["seed"] = self.seed % 2**63
        return options


def read_request(body: bytes, model: str) -> ChatRequest:
    """A request's JSON.

    model: the name of the one that answers.

    Raises:
        MalformedError: not JSON. UnusableError: a value or a field that can't be used; names it.
        UnknownModelError: another model.
    """
    try:
        given = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedError("the body of the request is not JSON; send JSON") from error
    if isinstance(given, dict):
        given = {name: value for name, value in given.items() if _has_meaning(name, value)}
    try:
        request = ChatRequest.model_validate(given)
    except ValidationError as error:
        raise refusal(error, given) from None
    if request.model not in (model, ANY_MODEL):
        raise UnknownModelError(
            f"model: this service has {model}; found {request.model[:100]!r}", param="model"
        )
    return request


def _has_meaning(name: str, value: Any) -> bool:
    if name in ChatRequest.model_fields:
        return True
    if value is None or name in _IGNORED or value in _HARMLESS.get(name, ()):
        return False
    raise UnusableError(f"{name[:100]}: not supported by this service; leave it out", param=name)
