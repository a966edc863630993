"""llama.cpp fails while replies are generated, at the seam where it is called: a real engine, a failing call."""

from __future__ import annotations

import asyncio
import threading
import time

import numpy as np
import pytest

from fastinfer.engines.llama.binding import llama, quick
from fastinfer.errors import EngineDeadError, EngineError, EngineOutOfMemoryError, ModelLoadError
from fault_matrix import Fault, rows
from ways import Replied, all_chats, each_chat

KIND = "engine"
PROMPTS = ["hello", "what is this?", "and that?"]


def returns(code, error=EngineError, words=""):
    return Fault(KIND, f"llama_decode returns {code} while replies run", code, error, words or str(code))


def raises(owner, function, raised):
    name = f"{function} raises {type(raised).__name__} while replies run"
    return Fault(KIND, name, (owner, function, raised), EngineDeadError, "died", type(raised))


def fails_to_load(function, error, words):
    return Fault(KIND, f"{function} gives nothing when a chat model loads", function, error, words)


RECOVERED = tuple(Fault(KIND, f"llama_decode returns {code} now and then while replies run", code) for code in (1, 2))
PASSING = (returns(-1), returns(-2, EngineOutOfMemoryError, "no memory"), returns(-3))
GARBAGE = (Fault(KIND, "scores of a reply that are no numbers", np.nan, EngineError, "no numbers"),)
FATAL = (
    raises(llama, "llama_decode", OSError("exception: access violation")),
    raises(llama, "llama_decode", MemoryError()),
    raises(llama, "llama_synchronize", SystemExit(3)),
    raises(quick, "llama_sampler_sample", ValueError("NULL pointer access")),
)
LOADING = (
    fails_to_load("llama_model_load_from_file", ModelLoadError, "cannot load"),
    fails_to_load("llama_init_from_model", EngineOutOfMemoryError, "could not create a context"),
)


@pytest.fixture(scope="module")
def whole(llm, asked):
    return [Replied.of(llm.chat(prompt, **asked)) for prompt in PROMPTS]


def fail_calls(monkeypatch, which, outcome):
    """Have the calls of llama_decode fail whose numbers ``which`` is true of; the numbers of those that did."""
    real, numbers, failed = llama.llama_decode, iter(range(1, 1 << 30)), []

    def decode(context, batch):
        number = next(numbers)
        if not which(number, len(failed)):
            return real(context, batch)
        failed.append(number)
        if callable(outcome):
            return outcome(real, context, batch)
        return outcome

    monkeypatch.setattr(llama, "llama_decode", decode)
    return failed


@pytest.mark.parametrize(**rows(RECOVERED))
async def test_what_passes_by_itself_changes_no_reply(fault, llm, asked, whole, monkeypatch):
    loop = llm._engine._core._loop
    # A request that runs alone has room: no room for it is an error of its own.
    failed = fail_calls(
        monkeypatch, lambda n, _: n % 4 == 0 and (fault.inject == 2 or len(loop.running) > 1), fault.inject
    )
    async for way, replies in all_chats(llm, PROMPTS, **asked):
        assert replies == whole, way
    async for way, reply in each_chat(llm, PROMPTS[0], **asked):
        assert reply == whole[0], way
    assert len(failed) > 3


def is_told(error, fault):
    assert type(error) is fault.error
    assert fault.words in error.message
    assert error.hint


async def each_way_is_told(llm, fault, wanted, failed, asked, right):
    """One call fails for each way to ask for a reply, which says so, and the next call is right."""
    ways = each_chat(llm, PROMPTS[0], **asked)
    for turn in range(1, 5):
        wanted[0] = turn
        way, reply = await anext(ways)
        assert len(failed) == turn, way
        is_told(reply, fault)
        assert Replied.of(llm.chat(PROMPTS[0], **asked)) == right


@pytest.mark.parametrize(**rows(PASSING))
async def test_what_ran_fails_whichever_way_it_was_asked_and_the_next_call_is_right(
    fault, llm, asked, whole, monkeypatch
):
    wanted = [0]

    def now(number, failed):
        return failed < wanted[0]

    failed = fail_calls(monkeypatch, now, fault.inject)
    await each_way_is_told(llm, fault, wanted, failed, asked, whole[0])
    several = all_chats(llm, PROMPTS, **asked)
    for _ in range(5):
        # Refused a batch of several, the engine tries each alone; so all that they can be refused for is refused.
        wanted[0] = len(failed) + (8 if fault.inject == -1 else 1)
        way, replies = await anext(several)
        wanted[0] = 0
        told = [reply for reply in replies if isinstance(reply, BaseException)]
        assert told, way
        for error in told:
            is_told(error, fault)
        for reply, expected in zip(replies, whole, strict=False):
            assert isinstance(reply, BaseException) or reply == expected
    assert [Replied.of(llm.chat(prompt, **asked)) for prompt in PROMPTS] == whole
    assert not any(slot["is_processing"] for slot in llm.slots())


@pytest.mark.parametrize(**rows(GARBAGE))
async def test_numbers_that_are_none_are_an_error_and_no_reply(fault, open_llm, asked, whole, monkeypatch):
    own = open_llm()

    def garbage(real, context, batch):
        code = real(context, batch)
        llama.llama_synchronize(context)
        rows = sum(batch.logits[i] for i in range(batch.n_tokens))
        scores = np.ctypeslib.as_array(llama.llama_get_logits(context), shape=(max(1, rows), own._vocabulary_size))
        scores[:] = fault.inject
        return code

    wanted = [0]
    failed = fail_calls(monkeypatch, lambda _, failed: failed < wanted[0], garbage)
    await each_way_is_told(own, fault, wanted, failed, asked, whole[0])


@pytest.mark.parametrize(**rows(FATAL))
async def test_the_engine_dies_and_everyone_is_told_why(fault, open_llm, asked, whole, monkeypatch):
    owner, function, raised = fault.inject
    dying, real, dies = open_llm(), getattr(owner, function), threading.Event()
    assert Replied.of(dying.chat(PROMPTS[0], **asked)) == whole[0]

    def call(*arguments):
        if dies.is_set():
            raise raised
        return real(*arguments)

    monkeypatch.setattr(owner, function, call)
    long = {"max_tokens": 0, "ignore_eos": True}
    begun = time.monotonic()
    stream, waiting = dying.stream("hello", **long), dying.astream("hello", **long)
    next(stream)
    tasks = [asyncio.create_task(dying.achat(f"hello {n}", **long)) for n in range(6)]
    await asyncio.sleep(0.01)
    dies.set()
    found = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)
    for ending in (lambda: list(stream), lambda: stream.reply):
        with pytest.raises(EngineDeadError) as caught:
            ending()
        found.append(caught.value)
    with pytest.raises(EngineDeadError):
        async for _ in waiting:
            pass
    assert time.monotonic() - begun < 20
    for error in found:
        assert type(error) is EngineDeadError
        assert error.__cause__ is raised
        assert error.hint
    async for way, later in each_chat(dying, "hello", **asked):
        assert type(later) is EngineDeadError, way
    async for way, several in all_chats(dying, PROMPTS, **asked):
        assert several, way
        assert all(type(later) is EngineDeadError and later.__cause__ is raised for later in several), way
    dying.close()
    monkeypatch.undo()
    assert Replied.of(open_llm().chat(PROMPTS[0], **asked)) == whole[0]


@pytest.mark.parametrize(**rows(LOADING))
def test_memory_that_is_gone_at_load_is_an_error_and_what_was_loaded_is_freed(
    fault, open_llm, asked, whole, monkeypatch
):
    freed, real = [], llama.llama_model_free
    monkeypatch.setattr(llama, "llama_model_free", lambda handle: (freed.append(1), real(handle))[1])
    with monkeypatch.context() as patch:
        patch.setattr(llama, fault.inject, lambda *_: None)
        with pytest.raises(fault.error) as caught:
            open_llm()
    is_told(caught.value, fault)
    assert len(freed) == (fault.inject == "llama_init_from_model")
    assert Replied.of(open_llm().chat(PROMPTS[0], **asked)) == whole[0]
