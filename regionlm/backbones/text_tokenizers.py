"""Text tokenizers of backbones: ``list[str] -> LongTensor [T, context]``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from regionlm.errors import InputError, ModelError

_HALVES = re.compile("[\ud800-\udfff]")


def whole_characters(text: str) -> str:
    """A text with U+FFFD for each half of a character, which no tokenizer takes.

    JSON may hold such halves (lone surrogates), and so may arguments that are not UTF-8.
    """
    return _HALVES.sub("\ufffd", text)


class FileTokenizer:
    """A Hugging Face ``tokenizer.json``, cut and padded to a CLIP text tower's context.

    The file's own post-processor must add the start and end tokens. Texts that are too long lose
    their last words, not their end token.

    Args:
        path: the file. context: tokens per text. vocabulary: rows of the model's embedding table.
        pad: id after the end of a text.

    Raises:
        ModelError: no tokenizer in the file, or it has more tokens than the model.
    """

    def __init__(self, path: Path, *, context: int, vocabulary: int, pad: int = 0) -> None:
        from tokenizers import Tokenizer

        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the Rust side raises plain Exception
            raise ModelError(f"tokenizer {path}: can't be read ({error})") from error
        size = self._tokenizer.get_vocab_size(with_added_tokens=True)
        if size > vocabulary:
            raise ModelError(
                f"tokenizer {path}: has {size} tokens but the text tower only {vocabulary};"
                " they belong to different models"
            )
        self._tokenizer.enable_truncation(max_length=context)
        self._tokenizer.no_padding()
        self.context, self.pad = context, pad

    def __call__(self, texts: list[str]) -> Tensor:
        """Token ids, int64 ``[T, context]``."""
        out = torch.full((len(texts), self.context), self.pad, dtype=torch.long)
        for row, encoding in zip(out, self._tokenizer.encode_batch(texts), strict=True):
            row[: len(encoding.ids)] = torch.tensor(encoding.ids, dtype=torch.long)
        return out

    def unknown_words(self, text: str) -> list[str]:
        """Parts of a text that a word-level vocabulary lacks; a BPE knows all."""
        unknown, text = getattr(self._tokenizer.model, "unk_token", None), whole_characters(text)
        found = self._tokenizer.encode(text, add_special_tokens=False)
        pairs = zip(found.tokens, found.offsets, strict=True)
        return [text[start:end] for token, (start, end) in pairs if token == unknown]

    def save(self, path: Path) -> None:
        """Write the tokenizer to ``path``."""
        self._tokenizer.save(str(path))


def refuse_unknown(tokenizer: object, texts: Sequence[str], name: str) -> None:
    """InputError for a text with words that the model ``name`` takes for one and the same."""
    for text in texts:
        words = tokenizer.unknown_words(text) if isinstance(tokenizer, FileTokenizer) else []
        if words:
            raise InputError(
                f"text {text!r}: the model {name} does not know {', '.join(map(repr, words))}; use"
                " words that it was trained on"
            )


def folder_tokenizer(folder: Path, text_config: dict[str, Any]) -> Any:
    """The tokenizer of a local model folder: its ``tokenizer.json``, else open_clip's own."""
    context = int(text_config.get("context_length", 77))
    vocabulary = int(text_config.get("vocab_size", 49408))
    path = folder / "tokenizer.json"
    if path.is_file():
        pad = int(text_config.get("pad_id", 0) or 0)
        return FileTokenizer(path, context=context, vocabulary=vocabulary, pad=pad)
    if vocabulary != 49408 or text_config.get("hf_tokenizer_name"):
        raise ModelError(
            f"model folder {folder}: lacks tokenizer.json, which its text tower (vocabulary of"
            f" {vocabulary}) needs; copy it there"
        )
    from open_clip import SimpleTokenizer

    return SimpleTokenizer(context_length=context)
