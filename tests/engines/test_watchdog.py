"""Steps of engines in this process that take too long: everyone who waits is told where they stand."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

import fastinfer
from beside import eventually
from fastinfer.engines import watchdog
from fastinfer.engines.lifeline import Lifeline
from fastinfer.engines.llama.chat.loop import ChatLoop
from fastinfer.engines.llama.forward import ForwardPass
from fastinfer.errors import EngineDeadError, PresetError

LABELS = ["red circle", "red square"]
#: Seconds that a step may take; those of these models take a hundredth of it.
LIMIT = 3.0


@pytest.fixture
def gate():
    """Whatever a test lets hang goes on at its end."""
    opened = threading.Event()
    yield opened
    opened.set()


def hang_once(monkeypatch, kind, name, gate):
    """Let the next call of a method hang at the gate; gives a list that has something in it from then on."""
    original, calls = getattr(kind, name), []

    def waits_for_the_gate(self, *arguments):
        calls.append(1)
        if len(calls) == 1:
            gate.wait(60)
        return original(self, *arguments)

    monkeypatch.setattr(kind, name, waits_for_the_gate)
    return calls


def test_a_classifier_that_hangs_tells_all_who_wait_where_and_frees_its_memory_late(monkeypatch, pictures, gate):
    classifier = fastinfer.classifier(labels=LABELS, workers=1, n_threads=1)
    classifier.classify(pictures[0])
    classifier._engine.limit_steps(LIMIT)
    freed = threading.Event()
    classifier._engine._core._free.callback(freed.set)
    hang_once(monkeypatch, ForwardPass, "score", gate)
    begun = time.monotonic()
    answers = list(classifier.classify_many(pictures, errors="return"))
    assert time.monotonic() - begun < LIMIT + 10
    hung = [answer.error for answer in answers if isinstance(answer.error, EngineDeadError)]
    assert hung
    assert any("A batch of" in error.message and "threading.py" in error.message for error in hung)
    assert all("waits_for_the_gate" in str(error.__cause__) for error in hung)
    assert any("isolate=True" in (error.hint or "") for error in hung)
    with pytest.raises(EngineDeadError, match="has died"):
        classifier.classify(pictures[0])
    classifier.close()
    assert not freed.is_set(), "the native call may still use it"
    gate.set()
    assert freed.wait(20)


def test_a_chat_model_that_hangs_tells_all_who_wait_where_and_frees_its_memory_late(monkeypatch, babbler, gate):
    llm = fastinfer.llm(model=babbler, n_ctx=512, n_batch=512, n_ubatch=512, n_threads=1, step_timeout=LIMIT)
    llm.chat("hello", max_tokens=2)
    freed = threading.Event()
    llm._engine._core._free.callback(freed.set)
    stream = llm.stream("hello", max_tokens=100, ignore_eos=True)
    next(stream)
    hang_once(monkeypatch, ChatLoop, "step", gate)
    with pytest.raises(EngineDeadError, match="A step of the chat engine has taken more than") as failed:
        list(stream)
    assert "waits_for_the_gate" in str(failed.value.__cause__)
    with pytest.raises(EngineDeadError):
        llm.chat("hello")
    assert llm.metrics()["llamacpp:requests_processing"] <= 1
    llm.close()
    assert not freed.is_set()
    gate.set()
    assert freed.wait(20)


def test_who_waits_for_room_in_the_queue_is_told_too(monkeypatch, babbler, gate):
    with fastinfer.llm(
        model=babbler, n_ctx=512, n_batch=512, n_ubatch=512, parallel=1, max_queue=1, step_timeout=LIMIT
    ) as llm:
        hang_once(monkeypatch, ChatLoop, "step", gate)
        replies = llm.chat_many([f"number {number}" for number in range(6)], max_tokens=2, errors="return")
        assert all(isinstance(reply.error, EngineDeadError) for reply in replies)
        gate.set()


@pytest.mark.parametrize("kind", ["classifier", "chat"])
def test_closing_waits_for_a_step_that_hangs_only_as_long_as_a_step_may_take(
    monkeypatch, pictures, babbler, gate, kind
):
    small = {"n_ctx": 512, "n_batch": 512, "n_ubatch": 512}
    if kind == "classifier":
        engine = fastinfer.classifier(labels=LABELS, workers=1, n_threads=1, step_timeout=LIMIT)
        stuck, ask = (ForwardPass, "score"), lambda: engine.classify(pictures[0])
    else:
        engine = fastinfer.llm(model=babbler, n_threads=1, step_timeout=LIMIT, **small)
        stuck, ask = (ChatLoop, "step"), lambda: engine.chat("hello", max_tokens=2)
    freed = threading.Event()
    engine._engine._core._free.callback(freed.set)
    hangs = hang_once(monkeypatch, *stuck, gate)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask)
        eventually(lambda: hangs)
        begun = time.monotonic()
        engine.close()
        assert time.monotonic() - begun < LIMIT + 10
        assert isinstance(asked.exception(10), EngineDeadError)
        assert not freed.is_set(), "the native call may still use it"
        gate.set()
    assert freed.wait(20)


def test_a_slow_step_within_its_time_is_no_hang(monkeypatch, pictures):
    original = ForwardPass.score

    def slow(self, *arguments):
        time.sleep(0.8)
        return original(self, *arguments)

    with fastinfer.classifier(labels=LABELS, workers=1, n_threads=1, step_timeout=60) as classifier:
        monkeypatch.setattr(ForwardPass, "score", slow)
        assert classifier.classify(pictures[0]).label


@pytest.mark.parametrize("options", [{"step_timeout": 0}, {"step_timeout": "1"}, {"load_timeout": 5}, {"isolate": 1}])
def test_times_that_are_none_are_refused_before_anything_loads(options):
    with pytest.raises(PresetError):
        fastinfer.classifier(**options)


def test_a_watch_keeps_nothing_alive_and_the_thread_ends_with_the_last():
    class Engine:
        def __init__(self):
            self.watch = watchdog.Watch(Lifeline(), lambda error: None)

    engine = Engine()
    gone = weakref.ref(engine)
    engine.watch.begin("A step")
    engine.watch.end()
    del engine
    gc.collect()
    assert gone() is None


def test_beginning_and_ending_a_step_costs_next_to_nothing_and_says_nothing_too_early():
    life = Lifeline()
    life.step_timeout = 5.0
    watch = watchdog.Watch(life, lambda error: None)
    watch.begin("A step")
    now = time.monotonic()
    assert watch.overdue(now) is None
    overdue = watch.overdue(now + 6)
    assert overdue.sentence.startswith("A step has taken more than 5 s; it stands in overdue, watchdog.py, line ")
    assert "test_beginning_and_ending" in overdue.stack
    watch.end()
    assert watch.overdue(now + 6) is None
