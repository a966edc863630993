"""Many conversations: read lazily, answered in order, in bounded memory, with their failures in their places."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
import time

import pytest

from fastinfer.errors import FastInferError, MessageError, PromptTooLongError, QueueFullError

BAD = [None, [123], {}, [], [{"role": "wizard", "content": "x"}], "hello " * 10_000, [{"role": "user"}], 7]


class Counted:
    """An endless input that counts what was taken from it."""

    def __init__(self):
        self.taken = 0

    def __iter__(self):
        while True:
            self.taken += 1
            yield f"hello {self.taken}"


async def gather(results, into):
    """Append what comes to a list, which keeps it when the next one raises."""
    async for result in results:
        into.append(result)


@pytest.fixture
def endless():
    return Counted()


#: Four slots, twice as many conversations ahead.
AHEAD = 8


def test_replies_come_in_the_order_of_the_input(llm):
    questions = [f"hello {i}" for i in range(30)]
    expected = [llm.chat(q, seed=1, max_tokens=12).text for q in questions]
    assert [r.text for r in llm.chat_many(questions, seed=1, max_tokens=12)] == expected


@pytest.mark.parametrize("form", [list, tuple, iter, lambda items: (item for item in items)])
async def test_any_iterable_will_do(llm, collect, form):
    questions = [f"hello {i}" for i in range(5)]
    expected = [llm.chat(q, seed=1, max_tokens=4).text for q in questions]
    assert [r.text for r in llm.chat_many(form(questions), seed=1, max_tokens=4)] == expected
    assert [r.text for r in await collect(llm.achat_many(form(questions), seed=1, max_tokens=4))] == expected


async def test_nothing_in_gives_nothing_out(llm, collect):
    assert list(llm.chat_many([])) == []
    assert await collect(llm.achat_many([])) == []


def test_nothing_is_read_before_the_first_reply_is_asked_for(llm, endless):
    llm.chat_many(endless)
    assert endless.taken == 0


def test_the_input_is_read_a_bounded_number_ahead(llm, endless):
    replies = llm.chat_many(endless, max_tokens=2)
    for consumed in range(1, 40):
        next(replies)
        assert endless.taken <= consumed + AHEAD
    time.sleep(0.05)
    assert endless.taken <= 40 + AHEAD
    replies.close()


async def test_the_asynchronous_one_is_as_lazy(llm, endless):
    replies = llm.achat_many(endless, max_tokens=2)
    assert endless.taken == 0
    for consumed in range(1, 20):
        await anext(replies)
        assert endless.taken <= consumed + AHEAD
    await replies.aclose()


def test_all_slots_are_at_work(llm):
    replies = llm.chat_many((f"hello {i}" for i in range(6)), max_tokens=100, ignore_eos=True)
    most = 0
    done = threading.Event()

    def watch():
        nonlocal most
        while not done.is_set():
            most = max(most, sum(slot["is_processing"] for slot in llm.slots()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert len(list(replies)) == 6
    done.set()
    watcher.join()
    assert most == 4


def test_an_input_that_raises_raises_after_what_came_before_it(llm, idle):
    def broken():
        yield from ("hello 1", "hello 2", "hello 3")
        raise ZeroDivisionError("in the caller's input")

    for errors in ("raise", "return"):
        replies = []
        with pytest.raises(ZeroDivisionError, match="in the caller's input"):
            replies.extend(llm.chat_many(broken(), max_tokens=2, errors=errors))
        assert len(replies) == 3
    idle(llm)


async def test_an_asynchronous_input_that_raises_does_so_too(llm):
    async def broken():
        yield "hello"
        raise ZeroDivisionError

    replies = []
    with pytest.raises(ZeroDivisionError):
        await gather(llm.achat_many(broken(), max_tokens=2), replies)
    assert len(replies) == 1


async def test_failures_are_returned_in_their_places_and_their_siblings_untouched(llm, collect, same):
    questions = [item for i, bad in enumerate(BAD) for item in (f"hello {i}", bad)]
    options = {"seed": 1, "max_tokens": 6, "errors": "return"}
    for replies in (list(llm.chat_many(questions, **options)), await collect(llm.achat_many(questions, **options))):
        assert len(replies) == len(questions)
        for i, (reply, failed) in enumerate(zip(replies[::2], replies[1::2], strict=True)):
            same(reply, llm.chat(f"hello {i}", seed=1, max_tokens=6))
            assert isinstance(failed.error, FastInferError)
            assert (failed.text, failed.finish_reason) == ("", "error")
            assert failed.provenance == llm.provenance


async def test_a_failure_is_raised_after_the_replies_before_it(llm, idle):
    questions = ["hello 1", "hello 2", [123], *["hello"] * 20]
    replies = []
    with pytest.raises(MessageError, match="int"):
        replies.extend(llm.chat_many(questions, max_tokens=3))
    assert len(replies) == 2
    replies = []
    with pytest.raises(MessageError, match="int"):
        await gather(llm.achat_many(questions, max_tokens=3), replies)
    assert len(replies) == 2
    idle(llm)


@pytest.mark.parametrize("errors", ["ignore", None, True])
def test_another_value_of_errors_is_refused_at_once(llm, errors):
    for ask in (llm.chat_many, llm.achat_many):
        with pytest.raises(ValueError, match="errors"):
            ask(["hello"], errors=errors)


@pytest.mark.parametrize("one", ["hello", b"hello"])
def test_a_text_is_not_taken_for_a_conversation_a_letter(llm, one):
    for ask in (llm.chat_many, llm.achat_many):
        with pytest.raises(MessageError, match="Several conversations"):
            ask(one)


def test_a_single_conversation_in_place_of_several_is_refused(llm):
    with pytest.raises(MessageError, match="dict"):
        list(llm.chat_many([{"role": "user", "content": "hello"}]))


async def test_a_progress_bar_goes_to_stderr(llm, collect, capsys):
    texts = [r.text for r in llm.chat_many(["hello"] * 5, seed=1, max_tokens=3)]
    assert capsys.readouterr().err == ""
    assert [r.text for r in llm.chat_many(["hello"] * 5, seed=1, max_tokens=3, progress=True)] == texts
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "5/5" in shown.err
    assert "reply" in shown.err
    await collect(llm.achat_many(iter(["hello"] * 5), max_tokens=3, progress=True))
    assert "5" in capsys.readouterr().err


@pytest.mark.parametrize("how", ["close", "break", "forget"])
def test_leaving_early_cancels_what_is_in_flight(llm, idle, generated, how):
    before = generated(llm)
    replies = llm.chat_many((f"hello {i}" for i in itertools.count()), max_tokens=200, ignore_eos=True)
    for _ in replies:
        break
    if how == "close":
        replies.close()
    else:
        del replies
        gc.collect()
    idle(llm)
    assert generated(llm) - before < 7 * 200


async def test_leaving_the_asynchronous_one_early_does_so_too(llm, generated):
    before = generated(llm)
    replies = llm.achat_many(itertools.repeat("hello"), max_tokens=300, ignore_eos=True)
    async for _ in replies:
        break
    await replies.aclose()
    while llm.metrics()["llamacpp:requests_processing"] or llm.metrics()["llamacpp:requests_deferred"]:
        await asyncio.sleep(0.01)
    assert generated(llm) - before < 7 * 300


async def test_a_full_queue_is_waited_for(fresh, collect):
    llm = fresh(max_queue=2, n_ctx=2048)
    others = []

    def disturb():
        for i in range(60):
            try:
                others.append(llm.chat(f"other {i}", max_tokens=8))
            except QueueFullError:
                others.append(None)

    threads = [threading.Thread(target=disturb) for _ in range(6)]
    for thread in threads:
        thread.start()
    questions = [f"hello {i}" for i in range(30)]
    sync = await asyncio.to_thread(lambda: list(llm.chat_many(questions, max_tokens=8, seed=1)))
    asynchronous = await collect(llm.achat_many(questions, max_tokens=8, seed=1))
    for thread in threads:
        thread.join(30)
    assert len(others) == 360
    assert [r.text for r in sync] == [r.text for r in asynchronous]
    assert all(reply.error is None for reply in sync)


async def test_a_timeout_holds_while_the_queue_is_full(fresh, long):
    llm = fresh(max_queue=1, parallel=1)
    running, waiting = llm.stream("hello", **long), None
    next(running)
    waiting = llm.stream("hello", **long)
    with pytest.raises(QueueFullError):
        llm.chat("hello")
    begun = time.monotonic()
    (reply,) = [r async for r in llm.achat_many(["hello"], timeout=0.1, errors="return")]
    assert isinstance(reply.error, TimeoutError)
    assert time.monotonic() - begun < 5
    (same,) = llm.chat_many(["hello"], timeout=0.1, errors="return")
    assert str(same.error) == str(reply.error)
    waiting.close()
    running.close()


async def test_many_run_in_the_room_of_a_few(llm):
    live = 0
    most = 0

    class Conversation(list):
        def __init__(self, text):
            nonlocal live, most
            super().__init__([{"role": "user", "content": text}])
            live += 1
            most = max(most, live)

        def __del__(self):
            nonlocal live
            live -= 1

    count = sum(1 for _ in llm.chat_many((Conversation(f"hello {i}") for i in range(200)), max_tokens=1))
    assert count == 200
    assert most <= AHEAD + 2


def test_a_schema_is_compiled_once_for_many(llm, monkeypatch):
    from fastinfer.chat import options

    calls = []
    original = options.compile_schema
    monkeypatch.setattr(options, "compile_schema", lambda schema: calls.append(schema) or original(schema))
    replies = list(llm.chat_many(["hello"] * 10, schema={"type": "boolean"}))
    assert {reply.parsed for reply in replies} <= {True, False}
    assert len(calls) == 1


def test_a_stream_of_many_inside_another(llm):
    outer = llm.chat_many([f"hello {i}" for i in range(3)], seed=1, max_tokens=3)
    texts = [(r.text, [i.text for i in llm.chat_many(["hello", "world"], seed=1, max_tokens=3)]) for r in outer]
    assert len(texts) == 3
    assert len({tuple(inner) for _, inner in texts}) == 1


def test_prompts_over_the_context_do_not_hold_up_the_others(llm):
    questions = ["hello", "hello " * 10_000, "hello"]
    one, two, three = llm.chat_many(questions, seed=1, max_tokens=3, errors="return")
    assert isinstance(two.error, PromptTooLongError)
    assert one.text == three.text
