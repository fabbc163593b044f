"""Text of a growing list of tokens, piece by piece."""

from collections.abc import Callable, Iterable, Iterator


def text_pieces(tokens: Iterable[int], decode: Callable[[list[int]], str]) -> Iterator[str]:
    """Yield non-empty pieces whose concatenation is decode(all tokens).

    What stands after the last space is held back: later bytes may complete a character, later
    letters a word, and tokenizers that tidy punctuation take the space before it away again.
    """
    ids: list[int] = []
    sent = 0
    for token in tokens:
        ids.append(token)
        stable = decode(ids).rpartition(" ")[0]
        if len(stable) > sent:
            yield stable[sent:]
            sent = len(stable)
    rest = decode(ids)[sent:]
    if rest:
        yield rest
