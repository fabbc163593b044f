"""Text tokenizers of backbones: ``list[str] -> LongTensor [T, context]``."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prefix_models.folders import CONFIG
from regionlm.backbones.open_clip_insides import (
    CONFIG_FILE,
    DEFAULT_CONTEXT,
    OWN_TOKENS,
    TOKENIZER_NAME,
    TOKENIZER_OPTIONS,
    get_tokenizer,
    text_cleaning,
)
from regionlm.errors import InputError, ModelError, ModelWarning

TOKENIZER_FILE, SETTINGS_FILE = "tokenizer.json", "tokenizer_config.json"
_VOCABULARIES = (TOKENIZER_FILE, "vocab.txt", "vocab.json", "*.model")
_ANY_HIGHEST = 2  # the eos_token_id for which transformers also takes a text's highest token
_HALVES = re.compile("[\ud800-\udfff]")


def whole_characters(text: str) -> str:
    """Replace each lone surrogate, which no tokenizer takes, by U+FFFD.

    They occur in JSON and in command-line arguments that are not UTF-8.
    """
    return _HALVES.sub("\ufffd", text)


class FileTokenizer:
    """A folder's own ``tokenizer.json``, cut and padded to a CLIP text tower's context.

    For custom vocabularies; published models have open_clip's tokenizers. Texts are cleaned as
    open_clip does: broken Unicode repaired, HTML entities resolved, whitespace normalised. The
    file's post-processor must add the start and end tokens. Texts that are too long lose their last
    words, but not their end token.

    Args:
        path: the file.
        context: tokens per text.
        vocabulary: rows of the model's embedding table.
        pad: id of the padding after a text.

    Raises:
        ModelError: the file holds no tokenizer, or it has more tokens than the model.
    """

    def __init__(self, path: Path, *, context: int, vocabulary: int, pad: int = 0) -> None:
        self.backend_tokenizer, self.clean_fn = _read(path), text_cleaning()
        size = self.backend_tokenizer.get_vocab_size(with_added_tokens=True)
        if size > vocabulary:
            raise ModelError(
                f"tokenizer {path}: has {size} tokens but the text tower only {vocabulary};"
                " they belong to different models"
            )
        self.backend_tokenizer.enable_truncation(max_length=context)
        self.backend_tokenizer.no_padding()
        self.context, self.pad = context, pad
        padding = self.backend_tokenizer.id_to_token(pad)
        if padding is not None:  # transformers also treats this word in a text as padding
            self.backend_tokenizer.add_special_tokens([padding])

    def __call__(self, texts: list[str]) -> Tensor:
        """Token ids, int64 ``[T, context]``."""
        out = torch.full((len(texts), self.context), self.pad, dtype=torch.long)
        encodings = self.backend_tokenizer.encode_batch([self.clean_fn(text) for text in texts])
        for row, encoding in zip(out, encodings, strict=True):
            row[: len(encoding.ids)] = torch.tensor(encoding.ids, dtype=torch.long)
        return out

    def unknown_words(self, text: str) -> list[str]:
        """See ``unknown_words``."""
        return unknown_words(self, text)

    def save(self, folder: Path) -> bool:
        """Write the tokenizer to a folder, for transformers and ``folder_tokenizer``.

        Returns:
            Whether open_clip can also read it, which needs a token with the id of the padding.
        """
        self.backend_tokenizer.save(str(folder / TOKENIZER_FILE))
        pad = self.backend_tokenizer.id_to_token(self.pad)
        if pad is not None:
            settings = json.dumps(_own_settings(pad), indent=2) + "\n"
            (folder / SETTINGS_FILE).write_text(settings, encoding="utf-8")
        return pad is not None


def _read(path: Path) -> Any:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the Rust code raises plain Exception
        raise ModelError(f"tokenizer {path}: can't be read ({error})") from error


def unknown_words(tokenizer: object, text: str) -> list[str]:
    """Words of a text that a word-level tokenizer does not know; other tokenizers know all."""
    from tokenizers.models import WordLevel

    # A FileTokenizer, or open_clip's wrapper of one of transformers.
    backend = getattr(getattr(tokenizer, "tokenizer", tokenizer), "backend_tokenizer", None)
    if backend is None or not isinstance(backend.model, WordLevel):
        return []
    clean: Any = getattr(tokenizer, "clean_fn", str)
    text = clean(whole_characters(text))
    found = backend.encode(text, add_special_tokens=False)
    pairs = zip(found.tokens, found.offsets, strict=True)
    return [text[start:end] for word, (start, end) in pairs if word == backend.model.unk_token]


def refuse_unknown(tokenizer: object, texts: Sequence[str], name: str) -> None:
    """Raise InputError if a text has words that the model ``name`` does not know."""
    for text in texts:
        words = unknown_words(tokenizer, text)
        if words:
            raise InputError(
                f"text {text!r}: the model {name} does not know {', '.join(map(repr, words))}; use"
                " words that it was trained on"
            )


def folder_tokenizer(folder: Path, text_config: dict[str, Any]) -> Any:
    """The tokenizer of an open_clip model's folder, the same that open_clip itself uses.

    A text tower that names no tokenizer has open_clip's own. The exceptions are folders that
    open_clip can't read: if the text tower is too small for that tokenizer, or has exactly the size
    of the one in ``tokenizer.json``, it has the latter.

    Args:
        folder: has ``open_clip_config.json`` and, if that names a tokenizer, its files; the network
            is never used.
        text_config: the ``text_cfg`` in that config.

    Raises:
        ModelError: the files are missing, damaged or another model's.
    """
    rows, path = int(text_config.get("vocab_size", OWN_TOKENS)), folder / TOKENIZER_FILE
    if text_config.get(TOKENIZER_NAME):
        return _saved_file(folder, text_config, rows) or _named(folder, text_config)
    own = _by_open_clip(folder) if rows >= OWN_TOKENS else None
    file = _vocabulary(path) if path.is_file() else {}
    if own is None and not file:
        raise ModelError(
            f"model folder {folder}: lacks {TOKENIZER_FILE}, which its text tower (vocabulary of"
            f" {rows}) needs; copy it there"
        )
    is_own = own is not None and file.items() >= _words(own).items()
    if own is None or (len(file) == rows and not is_own):
        pad = int(text_config.get("pad_id", 0) or 0)
        return FileTokenizer(path, context=_context(text_config), vocabulary=rows, pad=pad)
    if (file and not is_own) or rows != OWN_TOKENS:
        _warn_of_doubt(folder, rows)
    return own


def model_tokenizer(name: str, text_config: dict[str, Any], offline: bool) -> Any:
    """The tokenizer of one of open_clip's models by name.

    Raises:
        ModelError: it is on the hub and can't be downloaded.
    """
    named = text_config.get(TOKENIZER_NAME)
    if not named:
        return get_tokenizer(name)
    try:
        return get_tokenizer(name, local_files_only=offline, trust_remote_code=False)
    except Exception as error:  # errors of hub, network and file system have no common type
        how = "--offline was given" if offline else "the download failed"
        raise ModelError(
            f"{name}: its tokenizer {named} is missing ({type(error).__name__}: not on this"
            f" machine, and {how}); download it while you have a network (hf download {named})"
        ) from error


def transformers_clip_tokenizer(folder: Path, text_config: Any, *, own_end: bool = False) -> Any:
    """The tokenizer of a transformers ``CLIPModel``'s folder.

    It is open_clip's own if the folder has the same vocabulary, or no tokenizer but as many tokens.

    Args:
        folder: may have ``tokenizer.json``.
        text_config: a ``CLIPTextConfig``.
        own_end: the model takes the output at the end token that ``text_config`` names.

    Raises:
        ModelError: the file is missing, damaged or another model's, or its texts do not end with
            that token; or with their highest one, whose output open_clip takes otherwise.
    """
    from open_clip import SimpleTokenizer

    path, rows = folder / TOKENIZER_FILE, text_config.vocab_size
    context = text_config.max_position_embeddings
    is_own = rows == OWN_TOKENS and not own_end
    own = SimpleTokenizer(context_length=context) if is_own else None
    if not path.is_file():
        if own is None:
            raise ModelError(
                f"model folder {folder}: lacks {TOKENIZER_FILE}, which its text tower (vocabulary"
                f" of {rows}) needs; copy it there"
            )
        return own
    vocabulary = _vocabulary(path)
    if own is not None and vocabulary.items() >= _words(own).items():
        return own
    end, highest = ([None, *_read(path).encode("").ids][-1], max(vocabulary.values()))
    wanted = text_config.eos_token_id
    if own_end:
        if end != wanted:
            raise ModelError(
                f"model folder {folder}: expected texts that end with the token {wanted}, which"
                f" {CONFIG} names; {TOKENIZER_FILE} ends them with {end}"
            )
        pad = text_config.pad_token_id
        return FileTokenizer(path, context=context, vocabulary=rows, pad=pad or 0)
    if end is None or (wanted != _ANY_HIGHEST and not wanted == end == highest):
        raise ModelError(
            f"model folder {folder}: expected texts that end with the tokenizer's highest token,"
            f" {highest}; {TOKENIZER_FILE} ends them with {end}, config.json with {wanted}"
        )
    return FileTokenizer(path, context=context, vocabulary=rows, pad=end)


def _saved_file(folder: Path, text_config: dict[str, Any], rows: int) -> FileTokenizer | None:
    """Read a tokenizer that ``FileTokenizer.save`` wrote; None if it is another."""
    path = folder / TOKENIZER_FILE
    if not path.is_file() or any(text_config.get(key) for key in TOKENIZER_OPTIONS):
        return None
    try:
        settings = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
        pad = settings["pad_token"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    number = _vocabulary(path).get(pad) if settings == _own_settings(pad) else None
    if number is None:
        return None
    return FileTokenizer(path, context=_context(text_config), vocabulary=rows, pad=number)


def _own_settings(pad: str) -> dict[str, str]:
    """What transformers must know about a ``FileTokenizer`` in addition to its file."""
    return {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": pad}


def _named(folder: Path, text_config: dict[str, Any]) -> Any:
    if not any(path for pattern in _VOCABULARIES for path in folder.glob(pattern)):
        raise ModelError(  # transformers would make up a vocabulary
            f"model folder {folder}: lacks the files of its tokenizer,"
            f" {text_config[TOKENIZER_NAME]}; copy {TOKENIZER_FILE} and {SETTINGS_FILE} there"
        )
    # The folder's options could ask to run code in the folder.
    tokenizer = _by_open_clip(folder, local_files_only=True, trust_remote_code=False)
    try:
        tokenizer([""])
    except Exception as error:  # such as transformers' ValueError if there is no padding token
        raise _unusable(folder, error) from error
    return tokenizer


def _by_open_clip(folder: Path, **options: bool) -> Any:
    try:
        return get_tokenizer(f"local-dir:{folder}", **options)
    except Exception as error:  # transformers, open_clip and the Rust code raise many types
        raise _unusable(folder, error) from error


def _unusable(folder: Path, error: Exception) -> ModelError:
    reason = str(error).strip().split("\n", 1)[0] or type(error).__name__
    return ModelError(
        f"model folder {folder}: open_clip can't make the tokenizer that its {CONFIG_FILE} names"
        f" ({reason}); copy {TOKENIZER_FILE} and {SETTINGS_FILE} of the published model there"
    )


def _warn_of_doubt(folder: Path, rows: int) -> None:
    warnings.warn(
        f"model folder {folder}: its {CONFIG_FILE} names no tokenizer, so open_clip's own is used,"
        f" of {OWN_TOKENS} tokens for a text tower of {rows}; if the model was trained with its"
        f" {TOKENIZER_FILE}, add {TOKENIZER_NAME} (any name) to text_cfg",
        ModelWarning,
        stacklevel=5,  # the caller of load_backbone
    )


def _vocabulary(path: Path) -> dict[str, int]:
    return _read(path).get_vocab(with_added_tokens=True)


def _words(own: Any) -> dict[str, int]:
    """The vocabulary of open_clip's own tokenizer, except special tokens, whose names vary."""
    marks = set(own.all_special_ids)
    return {word: number for word, number in own.encoder.items() if number not in marks}


def _context(text_config: dict[str, Any]) -> int:
    return int(text_config.get("context_length", DEFAULT_CONTEXT))
