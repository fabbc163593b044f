"""Placeholders in prompts: `<region>`, or `<region1>`, `<region2>` ..., and `<image>`."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from prefix_models.errors import PrefixModelError

_PLACEHOLDER = re.compile(r"<(?:region([1-9][0-9]{0,3})?|image)>")


class Placeholder(NamedTuple):
    """A place for an embedding in a prompt: of region number `region` (from 0), or of the image."""

    text: str
    region: int | None


def find_placeholders(prompt: str) -> list[Placeholder]:
    """Return a prompt's placeholders in order.

    `<region1>` is the first region and may occur more than once. `<region>` is the next region each
    time it occurs. A prompt uses one of the two styles.

    Raises:
        PrefixModelError: the prompt mixes both styles.
    """
    found: list[Placeholder] = []
    plain = 0
    for match in _PLACEHOLDER.finditer(prompt):
        if match[0] == "<image>":
            found.append(Placeholder(match[0], None))
        elif match[1]:
            found.append(Placeholder(match[0], int(match[1]) - 1))
        else:
            found.append(Placeholder(match[0], plain))
            plain += 1
    if plain and any(place.text not in ("<region>", "<image>") for place in found):
        raise PrefixModelError(
            f"a prompt has either <region> or numbers such as <region1>, not both: {prompt[:80]!r}"
        )
    return found


def mark_placeholders(prompt: str, marker: str) -> str:
    """Return the prompt with `marker` in place of every placeholder."""
    return _PLACEHOLDER.sub(lambda match: marker, prompt)


def check_placeholders(
    prompt: str, places: Sequence[Placeholder], regions: int, image: bool
) -> None:
    """Raise PrefixModelError unless placeholders and given embeddings match one to one."""
    wanted = {place.region for place in places}
    given = {*range(regions), *([None] if image else [])}
    if wanted != given:
        named = ", ".join(dict.fromkeys(place.text for place in places)) or "none"
        raise PrefixModelError(
            f"prompt {prompt[:80]!r} has placeholders for {_count(wanted)} ({named}), but "
            f"embeddings of {_count(given)} were given; each placeholder needs an embedding, and "
            "each embedding a placeholder"
        )


def _count(wanted: set[int | None]) -> str:
    regions = sorted(number + 1 for number in wanted if number is not None)
    parts = [f"region {number}" for number in regions[:8]] + ["..."] * (len(regions) > 8)
    parts += ["the image"] * (None in wanted)
    return " and ".join(parts) or "nothing"
