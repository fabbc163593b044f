"""Texts that a prefix model can be trained on; others are named by file and line, or left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from prefix_models.base import PrefixModel
from regionlm.errors import InputError
from training.data.example import Example
from training.data.pairs import Kept, PairPart
from training.embeddings import PairSets
from training.fit_settings import PairSet, Recipe
from training.objectives import original_max_tokens

_TOGETHER = 1024  # texts in one call of the tokenizer


@dataclass(frozen=True)
class TextRoom:
    """The number of tokens that a text may have: at least one.

    tokenizer: of the language model. most: largest number; None for any.
    """

    tokenizer: Any
    most: int | None

    def complaints(self, texts: Iterable[str]) -> Iterator[str | None]:
        """Yield for each text what is wrong with it, or None."""
        rest = iter(texts)
        while some := list(islice(rest, _TOGETHER)):
            rows = self.tokenizer(some, add_special_tokens=False, verbose=False)["input_ids"]
            yield from map(self._complaint, some, map(len, rows))

    def check(self, example: Example) -> None:
        """Raise InputError, with the place of the example, if one of its texts can't be used."""
        for complaint in self.complaints(chain.from_iterable(example.texts)):
            if complaint is not None:
                raise InputError(f"{example.place}: {complaint}")

    def _complaint(self, text: str, tokens: int) -> str | None:
        if not tokens:
            return f"caption: expected words that the tokenizer knows, found none in {text[:40]!r}"
        if self.most is None or tokens <= self.most:
            return None
        return (
            f"caption: expected at most {self.most} tokens, the language model's limit;"
            f" found {tokens} in {text[:40]!r}"
        )


def text_room(model: PrefixModel, recipe: Recipe, pairs: PairSets | None = None) -> TextRoom:
    """The requirements of a recipe on its texts.

    pairs: what to train on. While this is None, texts that the recipe may cut can have any length.
    """
    cut = recipe.clipcap_original
    if cut and pairs is not None:
        texts = chain.from_iterable(one.texts for one in pairs.sets)
        cut = original_max_tokens(model, texts) <= model.text_room
    return TextRoom(model.tokenizer, None if cut else model.text_room)


def keep_usable(sets: Sequence[PairSet], pairs: PairSets, room: TextRoom) -> PairSets:
    """The pairs whose texts can be used; the others count as skipped.

    Raises:
        InputError: a text can't be used, and its set does not skip bad ones; says where it is.
    """
    parts = zip(sets, pairs.sets, strict=True)
    return PairSets([_keep_usable(part, room, one.skip_bad) for one, part in parts])


def _keep_usable(part: PairPart, room: TextRoom, skip_bad: bool) -> PairPart:
    bad = {
        index: f"{part.place(index)}: {complaint}"
        for index, complaint in enumerate(room.complaints(part.texts))
        if complaint is not None
    }
    if bad and not skip_bad:
        raise InputError(next(iter(bad.values())))
    return Kept(part, bad) if bad else part
