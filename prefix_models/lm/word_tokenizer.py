"""A word-level tokenizer for small language models that know a fixed list of words."""

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from prefix_models.errors import PrefixModelError

PAD, UNKNOWN, END = "<pad>", "<unk>", "<end>"


def word_tokenizer(words: Iterable[str]) -> PreTrainedTokenizerFast:
    """Build a tokenizer with one token for each word or punctuation mark.

    Text is lower-cased and split at spaces and punctuation; decoding puts single spaces between
    words and none before ",", "." and the like. Ids: 0 `<pad>`, 1 `<unk>`, 2 `<end>` (the end
    token), then the given words in order, without duplicates.

    Raises:
        PrefixModelError: there are no words, or a "word" would be split in pieces.
    """
    splitter = pre_tokenizers.Whitespace()
    vocabulary = {PAD: 0, UNKNOWN: 1, END: 2}
    for word in words:
        if [piece for piece, _ in splitter.pre_tokenize_str(word.lower())] != [word]:
            raise PrefixModelError(f"{word!r} is not one lower-case word; give its parts")
        vocabulary.setdefault(word, len(vocabulary))
    if len(vocabulary) == 3:
        raise PrefixModelError("a word tokenizer needs at least one word, found none")
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = splitter
    # The WordPiece decoder joins words with spaces and tidies punctuation. Its mark "##" can't
    # occur, because the splitter separates "##" from letters.
    backend.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=END, pad_token=PAD, unk_token=UNKNOWN
    )
