"""Turn a prompt with placeholders into token ids, in the language model's own chat format."""

import copy
from typing import Any

from transformers import AddedToken

from prefix_models.errors import PrefixModelError
from prefix_models.projector.config import PROMPT_SLOT
from prefix_models.projector.placeholders import Placeholder, find_placeholders, mark_placeholders

PLAIN_TEMPLATE = f"USER: {PROMPT_SLOT}\nASSISTANT:\n"
# Replaces placeholders while text is tokenized; never reaches the language model.
_MARKER = "<|visual_token|>"

# A part of a prompt: the token ids of a piece of text, or a placeholder.
Part = list[int] | Placeholder


def chat_template(tokenizer: Any) -> str:
    """Return the text around one user turn, with "{prompt}" in its place, up to the answer.

    It is the tokenizer's own chat template or, if it has none, "USER: ... ASSISTANT:" after the
    token that starts every text, if any. There, line breaks rather than spaces separate the turns,
    because byte-level tokenizers encode a first word after a space differently.

    Raises:
        PrefixModelError: the tokenizer's template rejects a plain user turn or changes it.
    """
    if not getattr(tokenizer, "chat_template", None):
        start = tokenizer("a")["input_ids"][0]
        return (tokenizer.bos_token if start == tokenizer.bos_token_id else "") + PLAIN_TEMPLATE
    turn = [{"role": "user", "content": PROMPT_SLOT}]
    hint = "give the text to use as the config's template"
    try:
        text = str(tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True))
    except Exception as error:  # errors of jinja and of templates have no common type
        raise PrefixModelError(
            f"the tokenizer's chat template refuses a user turn ({type(error).__name__}); {hint}"
        ) from error
    if text.count(PROMPT_SLOT) != 1:
        raise PrefixModelError(
            f"the tokenizer's chat template does not repeat the user's words once: {text[:80]!r}; "
            f"{hint}"
        )
    return text


class PromptTokenizer:
    """Put prompts into a template and split them into token ids and placeholders.

    A copy of the tokenizer gets a special token that stands for placeholders, as in published LLaVA
    tokenizers. So no token can span a placeholder and the text next to it, and a SentencePiece
    tokenizer treats only the beginning of the whole text as the beginning of a sentence.

    Args:
        tokenizer: Hugging Face tokenizer; it is not changed.
        template: text that contains "{prompt}", see ProjectorConfig.
    """

    def __init__(self, tokenizer: Any, template: str) -> None:
        self._template = template
        self._tokenizer = copy.deepcopy(tokenizer)
        marker = AddedToken(_MARKER, special=True, normalized=False, lstrip=False, rstrip=False)
        self._tokenizer.add_tokens([marker], special_tokens=True)
        self._marker_id = self._tokenizer.convert_tokens_to_ids(_MARKER)

    def __call__(self, prompt: str) -> list[Part]:
        """Return the parts of the template with the prompt in it, in order.

        Raises:
            PrefixModelError: the prompt is not a text, mixes both styles of placeholders, or
                contains the marker.
        """
        if not isinstance(prompt, str):
            raise PrefixModelError(f"prompt: expected a text, found {type(prompt).__name__}")
        places = iter(find_placeholders(prompt))
        if _MARKER in prompt:
            raise PrefixModelError(f"a prompt can't contain {_MARKER}: it has a meaning here")
        text = self._template.replace(PROMPT_SLOT, mark_placeholders(prompt, _MARKER))
        parts: list[Part] = []
        piece: list[int] = []
        for token in self._tokenizer(text, add_special_tokens=False)["input_ids"]:
            if token == self._marker_id:
                parts += [piece, next(places)]
                piece = []
            else:
                piece.append(token)
        return [part for part in (*parts, piece) if part]
