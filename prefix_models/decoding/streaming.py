"""The text of a growing list of tokens, piece by piece."""

from collections.abc import Callable, Iterable, Iterator


class TextPieces:
    """Turns tokens, as they come, into pieces whose concatenation is decode(all tokens).

    The text after the last space is held back: later tokens may complete a character or a word, and
    tokenizers that tidy punctuation remove the space before it.
    """

    def __init__(self, decode: Callable[[list[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._sent = 0

    def add(self, token: int) -> str:
        """What a further token makes certain; often nothing."""
        self._ids.append(token)
        return self._unsent(self._decode(self._ids).rpartition(" ")[0])

    def rest(self) -> str:
        """What was held back; after the last token."""
        return self._unsent(self._decode(self._ids))

    def _unsent(self, text: str) -> str:
        piece = text[self._sent :]
        self._sent += len(piece)
        return piece


def text_pieces(tokens: Iterable[int], decode: Callable[[list[int]], str]) -> Iterator[str]:
    """Yield the non-empty pieces of `TextPieces`."""
    pieces = TextPieces(decode)
    for token in tokens:
        if piece := pieces.add(token):
            yield piece
    if rest := pieces.rest():
        yield rest
