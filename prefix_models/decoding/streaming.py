"""The text of a growing list of tokens, piece by piece."""

from collections.abc import Callable, Iterable, Iterator


def text_pieces(tokens: Iterable[int], decode: Callable[[list[int]], str]) -> Iterator[str]:
    """Yield non-empty pieces whose concatenation is decode(all tokens).

    The text after the last space is held back: later tokens may complete a character or a word, and
    tokenizers that tidy punctuation remove the space before it.
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
