"""OpenAI's own client, over a real socket: what it gets is what the Python API says."""

import openai
import pytest

from regionlm.serve.openai.schemas import ANY_MODEL
from tests.regionlm.serve.openai.chats import LEFT, RIGHT, asking, box_mask, cut_out, grey, part
from tests.regionlm.serve.pictures import picture

IMAGE = picture(1)
A, B = box_mask(IMAGE, LEFT), box_mask(IMAGE, RIGHT)


def complete(client, messages, **options):
    return client.chat.completions.create(model="mini", messages=messages, **options)


def streamed(client, messages, **options):
    """Pieces of the text, reasons to finish, and usages."""
    chunks = list(complete(client, messages, stream=True, **options))
    choices = [choice for chunk in chunks for choice in chunk.choices]
    assert choices[0].delta.role == "assistant"
    return (
        [choice.delta.content for choice in choices if choice.delta.content],
        [choice.finish_reason for choice in choices if choice.finish_reason],
        [chunk.usage for chunk in chunks if chunk.usage],
    )


def test_a_caption_is_that_of_the_python_api(chat, mini):
    (expected,) = mini.caption(IMAGE, A)
    reply = complete(chat, asking(cut_out(IMAGE, A)))
    (choice,) = reply.choices
    assert choice.message.content == expected.text and choice.finish_reason == "stop"
    assert reply.model == "mini" and reply.object == "chat.completion"
    assert reply.usage.completion_tokens == len(expected.generation.token_ids)
    assert reply.usage.prompt_tokens == mini.prefix_model.context_length
    (row,) = reply.regions
    assert row["dice"] == pytest.approx(expected.dice, abs=1e-4)


def test_a_stream_is_the_same_text_in_pieces(chat, mini):
    (expected,) = mini.caption(IMAGE, A)
    pieces, finishes, usages = streamed(chat, asking(cut_out(IMAGE, A)))
    assert "".join(pieces) == expected.text and len(pieces) > 1
    assert finishes == ["stop"] and not usages
    _, _, (usage,) = streamed(
        chat, asking(cut_out(IMAGE, A)), stream_options={"include_usage": True}
    )
    assert usage.completion_tokens == len(expected.generation.token_ids)


def test_several_regions_get_a_line_each_streaming_and_not(chat, mini):
    other = picture(2)
    found = [*mini.caption(IMAGE, [A, B]), *mini.caption(other, B)]
    names = ["image 1", "image 2", "image 3"]
    expected = "\n".join(f"{n}: {one.text}" for n, one in zip(names, found, strict=True))
    messages = asking(cut_out(IMAGE, A), grey(B), cut_out(other, B))
    assert complete(chat, messages).choices[0].message.content == expected
    assert "".join(streamed(chat, messages)[0]) == expected


def test_without_a_region_it_is_the_whole_image(chat, mini):
    (expected,) = mini.caption(IMAGE, A | ~A)
    assert complete(chat, asking(IMAGE)).choices[0].message.content == expected.text


def test_options_of_decoding_have_their_meaning(chat, mini):
    messages = asking(cut_out(IMAGE, A))

    def text(**options):
        return complete(chat, messages, **options).choices[0].message.content

    (greedy,), (sampled,) = (
        mini.caption(IMAGE, A, **options)
        for options in ({}, {"decoding": "sample", "temperature": 1.5, "top_p": 0.9, "seed": 3})
    )
    assert text(temperature=0) == text(temperature=0, top_p=0.5, seed=1) == greedy.text
    assert text(temperature=1.5, top_p=0.9, seed=3) == sampled.text != greedy.text
    word = greedy.text.split()[2]
    assert text(stop=[word]) == text(stop=word) == greedy.text[: greedy.text.index(word)]
    assert "".join(streamed(chat, messages, stop=word)[0]) == text(stop=word)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_text_that_is_cut_off_says_so(chat, mini, name):
    (choice,) = complete(chat, asking(cut_out(IMAGE, A)), **{name: 2}).choices
    (expected,) = mini.caption(IMAGE, A, max_new_tokens=2)
    assert (choice.message.content, choice.finish_reason) == (expected.text, "length")
    assert streamed(chat, asking(cut_out(IMAGE, A)), **{name: 2})[1] == ["length"]


def test_more_tokens_than_there_is_room_for_are_no_error(chat):
    (choice,) = complete(chat, asking(cut_out(IMAGE, A)), max_tokens=100_000).choices
    assert choice.finish_reason == "stop"


@pytest.mark.parametrize(
    "options",
    [
        {"n": 2},
        {"logprobs": True},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"response_format": {"type": "json_object"}},
        {"presence_penalty": 0.5},
        {"logit_bias": {"1": 2}},
        {"temperature": 3},
        {"top_p": 2},
        {"max_tokens": 0},
        {"stop": [""]},
        {"extra_body": {"num_beams": 3}},
    ],
)
def test_what_is_not_supported_is_named(chat, options):
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        complete(chat, asking(cut_out(IMAGE, A)), **options)
    name = next(iter(options.get("extra_body", options)))
    assert caught.value.param.split(".")[0] == name and name in caught.value.message
    assert caught.value.type == "invalid_request_error" and caught.value.request_id


def test_what_changes_nothing_is_accepted(chat):
    options = {"n": 1, "logprobs": False, "presence_penalty": 0, "user": "me", "tools": []}
    assert complete(chat, asking(IMAGE), **options, response_format={"type": "text"}).choices


@pytest.mark.parametrize(
    "content, param",
    [
        ([{"type": "input_audio", "input_audio": {}}], "messages.0.content.0.type"),
        ([{"type": "image_url", "image_url": {}}], "messages.0.content.0.image_url.url"),
        (3, "messages.0.content"),
    ],
)
def test_parts_that_are_not_supported_are_named(chat, content, param):
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        complete(chat, [{"role": "user", "content": content}])
    assert caught.value.param == param


@pytest.mark.parametrize(
    "url", ["data:image/png;base64,AAAA", "data:image/png;base64,!", "http://127.0.0.1/a.png", "x"]
)
def test_images_that_cannot_be_had_are_refused(chat, url):
    content = [{"type": "image_url", "image_url": {"url": url}}]
    for stream in (False, True):
        with pytest.raises(openai.UnprocessableEntityError, match=r"messages\.0\.content\.0"):
            complete(chat, [{"role": "user", "content": content}], stream=stream)


def test_another_model_is_not_found(chat):
    with pytest.raises(openai.NotFoundError) as caught:
        chat.chat.completions.create(model="gpt-4o", messages=asking(IMAGE))
    assert caught.value.code == "model_not_found"


def test_models_are_listed(chat):
    (model,) = chat.models.list()
    assert model.id == "mini" and chat.models.retrieve("mini").owned_by == "regionlm"
    with pytest.raises(openai.NotFoundError):
        chat.models.retrieve("gpt-4o")


def test_the_paths_without_v1_do_the_same(served):
    with openai.OpenAI(api_key="any", base_url=served()) as client:
        assert complete(client, asking(IMAGE)).choices[0].message.content
        assert [model.id for model in client.models.list()] == ["mini"]


def test_its_api_key_is_the_bearer_token(served, tmp_path):
    file = tmp_path / "tokens"
    file.write_text("right\n")
    address = served(tokens=str(file)) + "/v1"
    with openai.OpenAI(api_key="right", base_url=address) as client:
        assert client.models.list().data
    with openai.OpenAI(api_key="wrong", base_url=address) as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            client.models.list()
        assert caught.value.code == "invalid_api_key"


def test_describe_anythings_client_needs_its_switch(served, mini):
    """As its example reads a stream: every piece of the content is a part with a text."""
    (expected,) = mini.caption(IMAGE, A)
    content = [part(cut_out(IMAGE, A)), {"type": "text", "text": "\nDescribe the region."}]

    def read(address):
        with openai.OpenAI(api_key="any", base_url=address) as client:
            stream = client.chat.completions.create(
                model=ANY_MODEL,
                messages=[{"role": "user", "content": content}],
                max_tokens=512,
                temperature=0,
                stream=True,
            )
            said = ""
            for chunk in stream:
                if chunk.choices[0].delta and chunk.choices[0].delta.content:
                    for piece in chunk.choices[0].delta.content:
                        said += piece["text"] if piece["type"] == "text" else ""
        return said

    assert read(served(dam_stream=True)) == expected.text
    with pytest.raises(TypeError):
        read(served())
