"""Texts become the ids that open_clip gives them, for every model that it lists."""

import json
import random
import warnings

import open_clip
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import CLIPTokenizerFast

from regionlm.backbones.open_clip_insides import get_tokenizer
from regionlm.backbones.text_tokenizers import (
    FileTokenizer,
    folder_tokenizer,
    model_tokenizer,
    refuse_unknown,
    unknown_words,
)
from regionlm.errors import InputError, ModelError, ModelWarning
from regionlm.pretrained.bundle import MINI

# From 4.2 on open_clip lists models that write texts or hear; their tokenizers are tiktoken's.
LISTED = [
    name
    for name in open_clip.list_models()
    if "tokenizer_type" not in open_clip.get_model_config(name)["text_cfg"]
]
NAMED = ["ViT-H-14-CLIPA", "xlm-roberta-base-ViT-B-32", "nllb-clip-base"]
TEXTS = [
    "a photo of a dog",
    "a red fox on the snow, and an owl",
    "It\u2019s a \u201cquoted\u201d dog\u2014really",
    "cat &amp; dog &lt;3 &amp;quot;",
    "\ufb01sh in an o\ufb03ce",
    "Ünïcödé CAFÉ, Straße",
    "snake_case and kebab-case!?",
    "  two  spaces\tand\na line ",
    "[SEP] </s> <s> [CLS] <end_of_text> <|endoftext|>",
    "\U0001f436 狗 собака",
    "schÃ¶n",  # UTF-8 once read as Latin-1, which ftfy mends
    "zero\u200bwidth \x00 \x1f \ufeff",
    "dogs " * 100,
    "",
]
PIECES = st.sampled_from([*TEXTS, "dog", "<s>", "&amp;", "\u2019", "_", "[PAD]", "</w>", "'s"])
ANY_TEXT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
    st.lists(PIECES, max_size=4).map(" ".join),
)


def theirs(name, hub_cache):
    """open_clip's tokenizer of a model by its name, from the hub's cache."""
    named = open_clip.get_model_config(name)["text_cfg"].get("hf_tokenizer_name")
    options = {"cache_dir": str(hub_cache), "local_files_only": True} if named else {}
    return get_tokenizer(name, **options)


@pytest.fixture(scope="module")
def pairs(hub_cache, model_folder, tmp_path_factory):
    """Of each listed model's folder: our tokenizer, and open_clip's of its name; made once."""
    made = {}

    def pair(name):
        config = open_clip.get_model_config(name)
        key = json.dumps(config["text_cfg"], sort_keys=True)
        if key not in made:
            folder = model_folder(tmp_path_factory.mktemp("models") / "model", config)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ours = folder_tokenizer(folder, config["text_cfg"])
            made[key] = ours, theirs(name, hub_cache)
        return made[key]

    return pair


@pytest.mark.parametrize("name", LISTED)
def test_every_listed_model_reads_texts_as_open_clip_does(pairs, name):
    ours, wanted = pairs(name)
    assert torch.equal(ours(TEXTS), wanted(TEXTS))


@given(st.sampled_from(LISTED), st.lists(ANY_TEXT, min_size=1, max_size=5))
@settings(max_examples=1000, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_of_any_listed_model(pairs, name, texts):
    ours, wanted = pairs(name)
    assert torch.equal(ours(texts), wanted(texts))


def test_the_trial_texts_tell_tokenizers_apart(pairs):
    """CLIPA's separator, SigLIP's cleaning and open_clip's own cleaning each change the ids."""
    clipa, _ = pairs("ViT-H-14-CLIPA-336")
    separator = clipa.tokenizer.sep_token_id
    assert separator not in clipa(["dog"]) and separator in clipa.tokenizer("dog")["input_ids"]
    siglip, own = pairs("ViT-B-16-SigLIP")[0], pairs("ViT-B-32")[0]
    assert torch.equal(siglip(["A Dog!"]), siglip(["a dog"]))
    for tokenizer in (siglip, own, clipa):
        assert torch.equal(
            tokenizer(["it\u2019s a \ufb01sh &amp; dog"]), tokenizer(["it's a fish & dog"])
        )


OPTIONS = [
    (None, {"clean": "whitespace"}),
    (None, {"clean": "canonicalize"}),
    (None, {"additional_special_tokens": ["<region>"]}),
    (None, {"reduction_mask": "simple"}),
    (None, {"reduction_mask": "random"}),
    (None, {"reduction_mask": "shuffle"}),
    ("bert-base-uncased", {"clean": "canonicalize"}),
    ("roberta-base", {"clean": "lower"}),
    ("roberta-base", {"strip_sep_token": True}),
    ("facebook/nllb-200-distilled-600M", {"language": "fra_Latn"}),
    ("bert-base-uncased", {"tokenizer_mode": "clips", "bos_token": "[CLS]", "eos_token": "[SEP]"}),
]


@pytest.mark.parametrize("named, options", OPTIONS)
def test_options_of_a_folder_are_followed(
    named, options, hub_cache, model_folder, tmp_path, monkeypatch
):
    def ids(tokenizer):
        torch.manual_seed(0)
        random.seed(0)
        return tokenizer([*TEXTS, "<region> Dog"])

    plain = {"context_length": 9, "vocab_size": 49408}
    plain |= {"hf_tokenizer_name": named} if named else {}
    text = {**plain, "tokenizer_kwargs": dict(options)}
    if "tokenizer_mode" in options:
        text["tokenizer_mode"] = text["tokenizer_kwargs"].pop("tokenizer_mode")
    config = {"embed_dim": 8, "vision_cfg": {}, "text_cfg": text}
    folder = model_folder(tmp_path / "model", config)
    ours = ids(folder_tokenizer(folder, text))
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "told", config)
    assert torch.equal(ours, ids(theirs("told", hub_cache)))
    if "language" in options:
        return  # transformers 5 keeps to the tokenizer's own language
    without = model_folder(tmp_path / "without", {**config, "text_cfg": plain})
    assert not torch.equal(ours, ids(folder_tokenizer(without, plain)))


@pytest.mark.parametrize("name", ["ViT-B-32", *NAMED])
def test_a_folder_never_asks_the_network(model_folder, tmp_path, no_network, name):
    config = open_clip.get_model_config(name)
    assert folder_tokenizer(model_folder(tmp_path / "model", config), config["text_cfg"])(
        TEXTS
    ).any()


def test_code_in_a_folder_is_not_run(model_folder, tmp_path):
    config = open_clip.get_model_config("ViT-H-14-CLIPA")
    config["text_cfg"]["tokenizer_kwargs"]["trust_remote_code"] = True
    folder = model_folder(tmp_path / "model", config)
    wanted = folder_tokenizer(folder, config["text_cfg"])(TEXTS)
    told = json.loads((folder / "tokenizer_config.json").read_text())
    told |= {"auto_map": {"AutoTokenizer": [None, "evil.Evil"]}, "tokenizer_class": "Evil"}
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    try:
        assert torch.equal(folder_tokenizer(folder, config["text_cfg"])(TEXTS), wanted)
    except ModelError as error:
        assert "\n" not in str(error)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("lost", [["tokenizer.json"], ["tokenizer_config.json"],
                                  ["tokenizer.json", "tokenizer_config.json"]])  # fmt: skip
@pytest.mark.parametrize("name", NAMED)
def test_missing_files_of_a_named_tokenizer(model_folder, tmp_path, no_network, name, lost):
    config = open_clip.get_model_config(name)
    folder = model_folder(tmp_path / "model", config)
    for file in lost:
        (folder / file).unlink()
    try:
        found = folder_tokenizer(folder, config["text_cfg"])(TEXTS)
    except ModelError as error:
        assert lost[0] in str(error) and "\n" not in str(error)
    else:  # transformers knew the rest by the name of the model
        assert lost == ["tokenizer_config.json"]
        assert torch.equal(found, get_tokenizer(f"local-dir:{folder}")(TEXTS))


def test_a_named_model_s_tokenizer_that_can_not_be_had(monkeypatch):
    text = {"hf_tokenizer_name": "nobody/nothing-here"}
    config = {"embed_dim": 8, "vision_cfg": {}, "text_cfg": text}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "told", config)
    with pytest.raises(ModelError, match="told: its tokenizer nobody/nothing-here") as caught:
        model_tokenizer("told", text, offline=True)
    assert "hf download nobody/nothing-here" in str(caught.value)
    assert "\n" not in str(caught.value)


BAD = [
    ({"tokenizer_kwargs": {"strip_sep_token": True}}, None),
    ({"tokenizer_kwargs": {"clean": "spotless"}}, None),
    ({"tokenizer_kwargs": None}, None),
    ({"hf_tokenizer_name": "x", "tokenizer_kwargs": {"clean": "spotless"}}, None),
    ({"hf_tokenizer_name": "x"}, "{"),
    ({"hf_tokenizer_name": "x"}, "[]"),
    ({"hf_tokenizer_name": "x"}, ""),
]


@pytest.mark.parametrize("text, file", BAD)
def test_what_open_clip_can_not_make_is_one_clear_line(tmp_path, text, file):
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": {"text_cfg": text}}))
    if file is not None:
        (tmp_path / "tokenizer.json").write_text(file)
    with pytest.raises(ModelError, match=r"open_clip_config\.json|tokenizer\.json") as caught:
        folder_tokenizer(tmp_path, text)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def own_as_hub_file(folder):
    """CLIP's own vocabulary as transformers writes it: what ordinary CLIP folders hold."""
    own = open_clip.SimpleTokenizer()
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {names.get(word, word): number for word, number in own.encoder.items()}
    CLIPTokenizerFast(vocab=vocabulary, merges=list(own.bpe_ranks)).save_pretrained(folder)


def words_file(folder, size):
    vocabulary = {"<pad>": 0, "<unk>": 1, **{f"w{number}": number for number in range(2, size)}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))


OWN, FILE = "open_clip's", "the file's"
UNNAMED = [
    # rows of the text tower, what tokenizer.json holds, which tokenizer it is, doubted
    (49408, own_as_hub_file, OWN, False),
    (49408, None, OWN, False),
    (64000, None, OWN, True),
    (64000, own_as_hub_file, OWN, True),
    (49408, 50, OWN, True),
    (64000, 50, OWN, True),
    (49408, 49408, FILE, False),
    (64000, 64000, FILE, False),
    (50, 50, FILE, False),
    (60, 50, FILE, False),
]


@pytest.mark.parametrize("rows, file, which, doubted", UNNAMED)
def test_folders_that_name_no_tokenizer(tmp_path, recwarn, rows, file, which, doubted):
    text = {"context_length": 20, "vocab_size": rows}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": {"text_cfg": text}}))
    if isinstance(file, int):
        words_file(tmp_path, file)
    elif file is not None:
        file(tmp_path)
    found = folder_tokenizer(tmp_path, text)
    if which == OWN:
        wanted = open_clip.get_tokenizer(f"local-dir:{tmp_path}")
        assert torch.equal(found(TEXTS), wanted(TEXTS))
    else:
        assert found(["w7 w9 what"])[0, :4].tolist() == [7, 9, 1, 0]
    said = [str(one.message) for one in recwarn if issubclass(one.category, ModelWarning)]
    assert len(said) == doubted
    assert all("hf_tokenizer_name" in one and "\n" not in one for one in said)


def test_words_that_a_named_word_level_tokenizer_lacks(tmp_path):
    text = {"context_length": 20, "vocab_size": 50, "hf_tokenizer_name": "mine"}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": {"text_cfg": text}}))
    words_file(tmp_path, 50)
    (tmp_path / "tokenizer_config.json").write_text('{"pad_token": "<pad>"}')
    tokenizer = folder_tokenizer(tmp_path, text)
    assert unknown_words(tokenizer, "w7 zebra \u201cw8 &amp; \udcff") == [
        "zebra",
        '"',
        "&",
        "\ufffd",
    ]
    with pytest.raises(InputError, match="mine does not know 'zebra'"):
        refuse_unknown(tokenizer, ["w7", "zebra"], "mine")
    refuse_unknown(open_clip.SimpleTokenizer(), ["zebra"], "mine")


BACKBONE = MINI / "backbone"
MINI_TEXT = json.loads((BACKBONE / "open_clip_config.json").read_text())["model_cfg"]["text_cfg"]
MINI_WORDS = st.lists(
    st.one_of(PIECES, st.sampled_from(["a", "an", "red", "fox", "owl", ",", "<end>", "<pad>"])),
    max_size=50,
).map(" ".join)


@given(st.lists(st.one_of(ANY_TEXT, MINI_WORDS), min_size=1, max_size=5))
def test_open_clip_reads_the_bundled_model_s_texts_as_we_do(texts):
    ours = folder_tokenizer(BACKBONE, MINI_TEXT)
    assert isinstance(ours, FileTokenizer)
    theirs = get_tokenizer(f"local-dir:{BACKBONE}")
    assert torch.equal(ours(texts), theirs(texts))


def test_a_bundle_of_before_names_were_written_keeps_its_ids(tmp_path):
    text = {key: value for key, value in MINI_TEXT.items() if key != "hf_tokenizer_name"}
    (tmp_path / "tokenizer.json").write_bytes((BACKBONE / "tokenizer.json").read_bytes())
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": {"text_cfg": text}}))
    texts = ["a red fox on the snow, an OWL", "zebra", "dog " * 50, ""]
    before = folder_tokenizer(tmp_path, text)(texts)
    assert torch.equal(before, folder_tokenizer(BACKBONE, MINI_TEXT)(texts))
    assert before[0, :12].tolist() == [2, 4, 78, 44, 67, 94, 89, 3, 6, 68, 107, 0]
    assert before[1, :4].tolist() == [2, 1, 107, 0] and before[2, -2:].tolist() == [36, 107]
