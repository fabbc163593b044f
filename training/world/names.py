"""The words of the mini world: its things, tints and places, and the tokenizer built from them."""

from functools import lru_cache
from pathlib import Path

import yaml
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

TINTS = {
    "red": (225, 45, 40),
    "blue": (50, 95, 230),
    "green": (55, 170, 60),
    "yellow": (245, 215, 40),
    "purple": (150, 60, 190),
    "gray": (150, 150, 150),
}
PLACES = ("grass", "snow", "road", "water", "sand", "table")
WITHOUT_ARTICLE = frozenset(
    {"bread", "broccoli", "cheese", "corn", "glasses", "grapes", "jeans", "scissors"}
)
GLUE = ("a", "an", "on", "the", "and", ",")
PAD, UNKNOWN, START, END = "<pad>", "<unk>", "<start>", "<end>"


def phrase(name: str, tint: str | None = None, place: str | None = None) -> str:
    """The phrase of a region: "an owl", "a red car on the snow", "scissors on the table"."""
    words = [tint] if tint else []
    words.append(name)
    if name not in WITHOUT_ARTICLE:
        words.insert(0, "an" if words[0][0] in "aeiou" else "a")
    if place:
        words += ["on", "the", place]
    return " ".join(words)


@lru_cache
def pictograms() -> dict[str, str]:
    """The Unicode pictogram of each thing, by name, in the order of names.yaml."""
    groups = yaml.safe_load((Path(__file__).parent / "names.yaml").read_text(encoding="utf-8"))
    return {name: char for group in groups.values() for name, char in group.items()}


def words() -> list[str]:
    """All words of the world's captions, and the comma, in alphabetical order."""
    found = {word for name in pictograms() for word in name.split()}
    return sorted(found.union(TINTS, PLACES, GLUE))


def vocabulary() -> list[str]:
    """All tokens of the CLIP's text tower in id order: padding first and the end token last.

    open_clip pools a text at its highest token id, so the end token must have the highest.
    """
    return [PAD, UNKNOWN, START, *words(), END]


def build_tokenizer(*, wrap: bool) -> Tokenizer:
    """Word-level tokenizer of the world; `wrap` puts start and end tokens around a text (CLIP)."""
    ids = {token: i for i, token in enumerate(vocabulary())}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens([PAD, UNKNOWN, START, END])
    if wrap:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{START} $A {END}", special_tokens=[(START, ids[START]), (END, ids[END])]
        )
    return tokenizer
