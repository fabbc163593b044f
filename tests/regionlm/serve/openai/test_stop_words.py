"""A text ends at the first of several words, wherever the pieces of it end."""

from hypothesis import example, given
from hypothesis import strategies as st

from regionlm.serve.openai.stop_words import CutStream, cut

TEXTS = st.text("ab.", max_size=12)
WORDS = st.lists(st.text("ab.", min_size=1, max_size=4), max_size=3)


def test_a_text_is_cut_before_the_first_word():
    assert cut("a fox. A dog.", ["dog", "."]) == ("a fox", True)
    assert cut("a fox", ["dog"]) == ("a fox", False)
    assert cut("a fox", []) == ("a fox", False)


def test_what_may_begin_a_word_is_held_back():
    stream = CutStream(["fox"])
    assert [stream.add(piece) for piece in ("a f", "r", "o", "g f", "ox b")] == [
        *("a ", "fr", "o", "g ", "")
    ]
    assert stream.has_ended and stream.rest() == ""


@given(st.lists(TEXTS, max_size=6), WORDS)
@example([".b", "b"], ["b", ".bb"])  # the shorter word ends first, the longer one begins first
@example([".b", "a"], ["b", ".bb"])
def test_pieces_together_are_the_whole_text_cut(pieces, words):
    stream = CutStream(words)
    shown = [stream.add(piece) for piece in pieces] + [stream.rest()]
    text, has_ended = cut("".join(pieces), words)
    assert ("".join(shown), stream.has_ended) == (text, has_ended)
