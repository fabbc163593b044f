"""Stands in for OpenAI's client: a model that calls the tools for agents as a script says."""

import json
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import jsonschema
from openai.types.chat import ChatCompletion


class ScriptedModel:
    """Finds the fox, asks what it is with the ids that it was told, and says what it was answered.

    In between it makes a mistake, and goes on after the error.
    """

    def __init__(self) -> None:
        self.chat = SimpleNamespace(completions=SimpleNamespace(create=self._create))
        self._script = self._steps()
        next(self._script)

    def _create(self, *, model: str, messages: list[Any], tools: list[Any]) -> ChatCompletion:
        self._schemas = {one["function"]["name"]: one["function"]["parameters"] for one in tools}
        step = self._script.send(messages)
        message = {"role": "assistant", "content": None, **step}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        reply = {"id": "1", "object": "chat.completion", "created": 0, "model": model}
        return ChatCompletion.model_validate({**reply, "choices": [choice]})

    def _steps(self) -> Iterator[dict[str, Any]]:
        yield {}
        messages = yield self._call("find_region", image="sand.jpg", text="a fox")
        assert messages[-1]["content"].startswith("error: 'sand.jpg': no such file")
        messages = yield self._call("find_region", image="sand.png", text="a fox")
        image, mask = re.findall(r"(?:image|mask)-\w+", messages[-1]["content"])
        texts = ["a fox", "a book"]
        messages = yield self._call("match_region", image=image, region={"mask": mask}, texts=texts)
        yield {"content": messages[-1]["content"]}

    def _call(self, name: str, **arguments: Any) -> dict[str, Any]:
        jsonschema.validate(arguments, self._schemas[name])
        function = {"name": name, "arguments": json.dumps(arguments)}
        return {"tool_calls": [{"id": name, "type": "function", "function": function}]}
