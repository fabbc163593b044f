"""Ends a text at the first of several words, also while it is being written."""

from __future__ import annotations

from collections.abc import Sequence


def cut(text: str, words: Sequence[str]) -> tuple[str, bool]:
    """The text before the first of the words that it has, and whether it has any."""
    found = [place for word in words if (place := text.find(word)) >= 0]
    return (text[: min(found)], True) if found else (text, False)


class CutStream:
    """`cut` for a text that comes in pieces: what may be the beginning of a word is held back.

    Args:
        words: none of them empty.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self._words, self._held = words, ""
        self.has_ended = False

    def add(self, piece: str) -> str:
        """As much of the text as can be shown after this piece; nothing after its end."""
        if self.has_ended:
            return ""
        text = self._held + piece
        before, is_cut = cut(text, self._words)
        open_at = len(text) - self._open_end(text)
        # A word that began earlier may still come to its end, and then it is the first.
        self.has_ended = is_cut and len(before) <= open_at
        shown = min(len(before), open_at)
        self._held = text[shown:]
        return text[:shown]

    def rest(self) -> str:
        """What is left to be shown when the text has ended by itself; call it once, last."""
        if self.has_ended:
            return ""
        text, self.has_ended = cut(self._held, self._words)
        return text

    def _open_end(self, text: str) -> int:
        """Length of the longest end of a text with which a word may begin."""
        longest = min(len(text), max(map(len, self._words), default=1) - 1)
        for length in range(longest, 0, -1):
            if any(word.startswith(text[-length:]) for word in self._words):
                return length
        return 0
