"""The engine: batches, errors of one question only, limits, and questions whose asker has gone."""

import asyncio
import gc
import threading
import time
import weakref

import numpy as np
import pytest

from prefix_models.errors import PrefixModelError
from prefix_models.llava import LlavaReader
from regionlm.errors import InputError
from regionlm.inputs.masks import box_region
from regionlm.inputs.views import ImageView
from regionlm.llava_captioner import LlavaCaptioner
from regionlm.serve.engine import Engine
from regionlm.serve.errors import ClosingError, QueueFullError, TooLateError
from regionlm.serve.limits import Limits
from regionlm.serve.question import Piece, Question
from tests.regionlm.serve.pictures import picture, png
from tests.tiny_llava import tiny_llava

WAIT = 60  # seconds; only a failing test waits so long


def question(seed=0, kind="caption", size=(40, 30), count=1, **more):
    view = ImageView(picture(seed, size))
    regions = [box_region([i, 0, i + 9, 9], view.size) for i in range(count)]
    return Question(kind, view, regions, **more)


@pytest.fixture
def held(engine, monkeypatch):
    """The engine at work on a question that ends when the fixture's event is set."""
    released, begun, plain = threading.Event(), threading.Event(), engine.model.caption_batch

    def slow(*args, **options):
        begun.set()
        released.wait(WAIT)
        return plain(*args, **options)

    monkeypatch.setattr(engine.model, "caption_batch", slow)
    engine.submit(question(99))
    assert begun.wait(WAIT)
    yield released
    released.set()


def test_questions_that_wait_together_are_worked_together_with_the_same_answers(
    engine, held, mini, monkeypatch
):
    asked = [question(i, size=(40 + 8 * (i % 2), 30), count=1 + i % 3) for i in range(6)]
    futures = [engine.submit(one) for one in asked]
    held.set()
    found = [future.result(WAIT) for future in futures]
    assert engine.tally.batches["caption"] == 2  # the one that held it, and all others
    monkeypatch.undo()
    for one, captions in zip(asked, found, strict=True):
        expected = mini.caption(one.view.image, one.regions)
        assert [c.text for c in captions] == [c.text for c in expected]
        assert [c.logprob for c in captions] == pytest.approx(
            [c.logprob for c in expected], abs=1e-3
        )


def test_other_options_and_seeds_of_their_own_are_worked_apart(engine, held):
    seeds = {"decoding": "sample", "seed": [1, 2]}
    asked = [
        question(1), question(2, options={"steps": 1}), question(3, options={"steps": 1}),
        question(4, count=2, options=seeds), question(5, count=2, options=seeds),
    ]  # fmt: skip
    futures = [engine.submit(one) for one in asked]
    held.set()
    for future in futures:
        future.result(WAIT)
    assert engine.tally.batches["caption"] == 1 + 1 + 1 + 2


def test_a_bad_question_spoils_none_of_its_batch(engine, held):
    bad = question(2)
    bad.regions[0].mask[:] = False
    bad.regions = [box_region([0, 0, 9, 9], (99, 99))]  # of another image
    futures = [engine.submit(one) for one in (question(1), bad, question(3))]
    held.set()
    assert futures[0].result(WAIT) and futures[2].result(WAIT)
    with pytest.raises(InputError, match="99 x 99"):
        futures[1].result(WAIT)
    assert engine.tally.failed["caption"] == 1


def test_a_question_whose_asker_has_gone_leaves_the_queue(engine, held):
    async def ask_and_go():
        asking = asyncio.create_task(engine.ask(question(1)))
        while not engine.waiting:
            await asyncio.sleep(0.01)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    asyncio.run(ask_and_go())
    assert engine.waiting == 0
    other = engine.submit(question(2))
    held.set()
    other.result(WAIT)
    assert engine.tally.answered["caption"] == 2  # the one that held it, and the other


def test_a_full_queue_says_when_to_try_again(mini):
    engine = Engine(mini, Limits(max_queue=2))
    with engine._changed:  # the engine's thread can take nothing meanwhile
        for seed in range(2):
            engine.submit(question(seed))
        with pytest.raises(QueueFullError, match="2 questions") as caught:
            engine.submit(question(3))
        assert caught.value.retry_after >= 1
        with pytest.raises(QueueFullError):
            engine.view(png(picture(3)))  # not even decoded
    engine.close()
    assert engine.tally.answered["caption"] == 2


def test_large_images_fill_the_queue_sooner(mini):
    engine = Engine(mini, Limits(queue_mib=0.01))
    with engine._changed:
        engine.submit(question(0, size=(60, 40)))
        with pytest.raises(QueueFullError):
            engine.submit(question(1, size=(60, 40)))
    engine.close()


def test_an_answer_that_comes_too_late_is_not_waited_for(mini, engine, held, monkeypatch):
    async def ask():
        with pytest.raises(TooLateError):
            await engine.ask(question(1, deadline=0.0))

    asyncio.run(ask())
    with pytest.raises(TooLateError):
        engine.blocking._wait(question(1, deadline=0.0))
    late = engine.submit(question(2, deadline=0.0))
    held.set()
    with pytest.raises(TooLateError):
        late.result(WAIT)


def test_an_engine_that_closes_answers_what_waits_and_takes_nothing_new(engine, held):
    waiting = engine.submit(question(1))
    engine.refuse()
    running = engine.submit(question(2))  # of a request that runs
    held.set()
    engine.close()
    assert waiting.result(0) and running.result(0)
    with pytest.raises(ClosingError):
        engine.submit(question(3))


def test_an_error_outside_of_the_model_fails_its_batch_and_no_later_one(engine, monkeypatch):
    def no_memory(*_):
        raise MemoryError

    for owner, name in ((engine.answers, "keep"), (engine.views, "settle")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, no_memory)
            asked = engine.submit(question(1))
            if name == "keep":
                with pytest.raises(MemoryError):
                    asked.result(WAIT)
            assert asked.exception(WAIT) or asked.result(WAIT)
        assert engine.submit(question(2)).result(WAIT)


def test_a_thread_that_has_ended_is_replaced(engine):
    ended = threading.Thread(target=lambda: None)
    ended.start()
    ended.join(WAIT)
    engine._worker = ended
    assert engine.submit(question(1)).result(WAIT)
    worker = engine._worker
    engine.start()
    assert engine._worker is worker and worker.is_alive()


def test_an_answer_that_is_there_is_given_however_late(engine):
    view = engine.view(png(picture(1)))
    regions = [box_region([0, 0, 9, 9], view.size)]
    first = engine.submit(Question("caption", view, regions)).result(WAIT)

    async def ask():
        late = [Question("caption", view, regions, deadline=0.0) for _ in range(2)]
        return await engine.ask(late[0]), [one async for one in engine.stream(late[1])]

    found, parts = asyncio.run(ask())
    assert found[0].text == parts[-1][0].text == first[0].text and len(parts) > 1


def test_pieces_are_heard_as_a_caption_is_written(engine, mini):
    async def listen():
        return [part async for part in engine.stream(question(1, count=2))]

    *pieces, found = asyncio.run(listen())
    assert all(isinstance(piece, Piece) for piece in pieces)
    for index, caption in enumerate(found):
        own = [piece.text for piece in pieces if piece.index == index]
        assert "".join(own) == caption.text


def test_who_stops_listening_stops_the_work(engine, monkeypatch):
    ended = threading.Event()
    plain = engine.model.caption_batch

    def watched(*args, **options):
        try:
            return plain(*args, **options)
        finally:
            ended.set()

    monkeypatch.setattr(engine.model, "caption_batch", watched)
    options = {"min_new_tokens": 20, "max_new_tokens": 20}

    async def listen_once():
        parts = engine.stream(question(1, options=options))
        await anext(parts)
        await parts.aclose()

    asyncio.run(listen_once())
    assert ended.wait(WAIT)
    engine.close()
    assert engine.tally.answered["caption"] + engine.tally.failed["caption"] == 1


def test_a_question_asked_again_has_its_answer_at_once(engine):
    view = engine.view(png(picture(1)))
    regions = [box_region([0, 0, 9, 9], view.size)]
    (first,) = engine.submit(Question("caption", view, regions)).result(WAIT)
    again = engine.submit(Question("caption", view, regions))
    assert again.done() and again.result()[0].text == first.text
    assert engine.tally.answered["caption"] == 1
    (other,) = engine.submit(Question("caption", view, regions, options={"steps": 1})).result(WAIT)
    assert engine.tally.answered["caption"] == 2 and other.logprob != first.logprob
    again.result()[0].heatmap()
    assert "heatmap" not in vars(first.explanation)  # nobody's copy holds another's picture


def test_what_chance_decides_is_asked_again(engine):
    view = engine.view(png(picture(1)))
    regions = [box_region([0, 0, 9, 9], view.size)]
    for options in ({"decoding": "sample"}, {"decoding": "sample", "seed": 3}):
        for _ in range(2):
            engine.submit(Question("caption", view, regions, options=options)).result(WAIT)
    assert engine.tally.answered["caption"] == 3


@pytest.mark.parametrize(
    ("limits", "more", "said"),
    [
        ({"max_regions": 1}, {"count": 2}, "regions"),
        ({"max_texts": 1}, {"kind": "match", "texts": ["a", "b"]}, "texts"),
        ({"max_text_length": 3}, {"kind": "match", "texts": ["four"]}, "characters"),
        ({"max_tokens": 5}, {"options": {"max_new_tokens": 6}}, "max_new_tokens"),
        ({"max_steps": 5}, {"options": {"steps": 6}}, "steps"),
        ({"max_beams": 2}, {"options": {"decoding": "beam", "beam_size": 3}}, "beam_size"),
        ({"max_size": 192}, {"options": {"size": [64, 256]}}, "size"),
    ],
)
def test_a_question_beyond_a_limit_is_refused(mini, limits, more, said):
    engine = Engine(mini, Limits(**limits))
    with pytest.raises(InputError, match=said):
        engine.submit(question(**more))
    engine.close()


def test_the_facade_is_the_python_api(engine, mini):
    image, mask = picture(5), np.zeros((30, 40), bool)
    mask[3:20, 3:20] = True
    facade = engine.blocking
    (one,), (other,) = facade.caption(image, mask), mini.caption(image, mask)
    assert (one.text, one.region) == (other.text, other.region)
    assert "".join(facade.stream(image, mask)) == other.text
    texts = ["a dog", "a cat"]
    found, expected = facade.match(image, mask, texts), mini.match(image, mask, texts)
    assert found[0].probabilities == pytest.approx(expected[0].probabilities, abs=1e-4)
    assert facade.embed(image, mask).embeddings.shape == (1, mini.backbone.dim)
    assert [one.name for one in facade.explain(image, texts=texts)] == texts
    view = facade.encode(image)
    assert facade.caption(view, mask)[0].text == other.text
    with pytest.raises(PrefixModelError, match="beam"):
        list(facade.stream(image, mask, decoding="beam"))


def test_a_model_that_answers_nonsense_does_not_end_the_engine(engine, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(engine.model, "caption_batch", lambda *_, **__: [])
        with pytest.raises(ValueError):
            engine.submit(question(1)).result(WAIT)
    assert engine.submit(question(1)).result(WAIT)


def test_nothing_is_kept_of_a_question_that_was_answered(engine):
    """Not even until Python looks for circles: images are large, and it may be long till then."""
    engine.submit(question(1)).result(WAIT)
    gc.disable()
    try:
        one = question(2)
        kept = [weakref.ref(one), weakref.ref(one.future)]
        engine.submit(one).result(WAIT)
        del one
        latest = time.monotonic() + WAIT
        while any(ref() is not None for ref in kept):
            assert time.monotonic() < latest
            time.sleep(0.01)
    finally:
        gc.enable()


def test_beams_are_not_streamed_even_if_the_answer_is_known(engine):
    options = {"decoding": "beam", "steps": 1}
    view = ImageView(picture(3))
    regions = [box_region([0, 0, 9, 9], view.size)]
    for _ in range(2):
        with pytest.raises(PrefixModelError, match="beam"):
            engine.submit(
                Question("caption", view, regions, options=options, heard=lambda piece: None)
            )
        engine.submit(Question("caption", view, regions, options=options)).result(WAIT)


@pytest.fixture
def llava():
    engine = Engine(LlavaCaptioner(LlavaReader(*tiny_llava())))
    yield engine
    engine.close()


@pytest.mark.parametrize("spoils", ["its asker leaves", "its region can't be seen"])
def test_a_llava_s_stream_is_not_spoilt_by_others_that_wait_with_it(llava, spoils):
    begun, released, pieces = threading.Event(), threading.Event(), []

    def hold(_):
        begun.set()
        released.wait(WAIT)

    def asked(heard, seed=0, size=(64, 64), box=(5, 5, 50, 50)):
        view, options = ImageView(picture(seed, size)), {"max_new_tokens": 8}
        regions = [box_region(box, size)]
        return Question("caption", view, regions, options=options, heard=heard)

    llava.submit(asked(hold))
    assert begun.wait(WAIT)
    good = asked(lambda piece: pieces.append(piece.text), seed=1)
    if spoils == "its asker leaves":
        bad = asked(lambda _: bad.leave(), seed=2)
    else:
        bad = asked(lambda _: None, size=(4000, 64), box=(0, 0, 1, 1))
    for one in (good, bad):
        llava.submit(one)
    released.set()
    [found] = good.future.result(WAIT)
    assert found.text == "".join(pieces).strip()
    if spoils != "its asker leaves":
        with pytest.raises(InputError, match="nothing of what"):
            bad.future.result(WAIT)
