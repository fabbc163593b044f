"""Which texts a prefix model can be trained on; others are named by file and line, or left out."""

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
    """At least one token, and at most as many as a language model has room for.

    tokenizer: its tokenizer. most: None: any number.
    """

    tokenizer: Any
    most: int | None

    def complaints(self, texts: Iterable[str]) -> Iterator[str | None]:
        """Of each text what is wrong with it, if anything."""
        rest = iter(texts)
        while some := list(islice(rest, _TOGETHER)):
            rows = self.tokenizer(some, add_special_tokens=False, verbose=False)["input_ids"]
            yield from map(self._complaint, some, map(len, rows))

    def check(self, example: Example) -> None:
        """Raise InputError, with its place, for an example with a text that can't be used."""
        for complaint in self.complaints(chain.from_iterable(example.texts)):
            if complaint is not None:
                raise InputError(f"{example.place}: {complaint}")

    def _complaint(self, text: str, tokens: int) -> str | None:
        if not tokens:
            return f"caption: expected words that the tokenizer knows, found none in {text[:40]!r}"
        if self.most is None or tokens <= self.most:
            return None
        return (
            f"caption: expected at most {self.most} tokens, for which the language model has room;"
            f" found {tokens} in {text[:40]!r}"
        )


def text_room(model: PrefixModel, recipe: Recipe, pairs: PairSets | None = None) -> TextRoom:
    """What a recipe asks of the texts.

    pairs: those to train on; before they are there, nothing is said of the length of texts that the
    recipe may cut.
    """
    cut = recipe.clipcap_original
    if cut and pairs is not None:
        texts = chain.from_iterable(one.texts for one in pairs.sets)
        cut = original_max_tokens(model, texts) <= model.text_room
    return TextRoom(model.tokenizer, None if cut else model.text_room)


def keep_usable(sets: Sequence[PairSet], pairs: PairSets, room: TextRoom) -> PairSets:
    """The pairs whose texts can be used; the others count as skipped.

    Raises:
        InputError: a text that can't be used, of a set that skips nothing; says where it is from.
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
