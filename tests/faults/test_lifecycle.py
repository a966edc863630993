"""Close, use after close, event loops and Ctrl-C, for every public method there is, whatever is added to it later."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import sys
import threading
import time
from pathlib import Path

import pytest

import pressed
from fastinfer.chat.model import LLM
from fastinfer.classify.classifier import Classifier
from fastinfer.errors import EngineDeadError
from fault_matrix import Fault, rows
from ways import Replied

KIND = "lifecycle"
SOURCES = Path(__file__).resolve().parents[2] / "src"
#: How each public method is called; those without an engine's work in them go on to answer after close.
USES = {
    "classify": lambda clf, images: clf.classify(images[0]),
    "aclassify": lambda clf, images: clf.aclassify(images[0]),
    "classify_many": lambda clf, images: list(clf.classify_many(images)),
    "aclassify_many": lambda clf, images: drain(clf.aclassify_many(images)),
    "calibrate": lambda clf, images: clf.calibrate([(image, "line") for image in images], coverage=0.5),
    "acalibrate": lambda clf, images: clf.acalibrate([(image, "line") for image in images], coverage=0.5),
    "chat": lambda llm, options: llm.chat("hello", **options),
    "achat": lambda llm, options: llm.achat("hello", **options),
    "stream": lambda llm, options: list(llm.stream("hello", **options)),
    "astream": lambda llm, options: streamed(llm, options),
    "chat_many": lambda llm, options: list(llm.chat_many(["hello"] * 3, **options)),
    "achat_many": lambda llm, options: drain(llm.achat_many(["hello"] * 3, **options)),
    "count_tokens": lambda llm, options: llm.count_tokens("hello"),
}
STAY = {"slots", "metrics", "engine_profile", "close", "aclose"}


async def drain(results):
    return [result async for result in results]


async def streamed(llm, options):
    return await drain(llm.astream("hello", **options))


def public(kind):
    return [name for name, what in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")]


def used(name, owner, what):
    """Call a method to its end, asynchronous ones in a loop of their own."""
    result = USES[name](owner, what)
    return asyncio.run(result) if inspect.isawaitable(result) else result


CLASSIFIES = [name for name in public(Classifier) if name not in STAY]
CHATS = [name for name in public(LLM) if name not in STAY]
AFTER_CLOSE = tuple(Fault(KIND, f"{name} after close", name, EngineDeadError, "closed") for name in CLASSIFIES + CHATS)
WITHIN_A_LOOP = tuple(
    Fault(KIND, f"{name} within a running event loop", name)
    for name in ("classify", "classify_many", "calibrate", "chat", "stream", "chat_many", "count_tokens")
)
IN_FLIGHT = tuple(
    Fault(KIND, f"close while {name} is in flight", name, EngineDeadError, "closed")
    for name in ("classify", "classify_many", "calibrate", "chat", "stream", "chat_many", "count_tokens")
)


def test_the_table_has_every_public_method():
    assert {*CLASSIFIES, *CHATS} == set(USES)


@pytest.fixture(scope="module")
def closed(labels, babbler):
    import fastinfer

    clf, llm = (
        fastinfer.classifier(labels=labels, workers=1),
        fastinfer.llm(model=babbler, n_ctx=256, n_batch=256, n_ubatch=256),
    )
    clf.close()
    llm.close()
    return {"clf": clf, "llm": llm}


@pytest.mark.parametrize(**rows(AFTER_CLOSE))
def test_every_method_says_that_it_is_closed(fault, closed, pictures, asked):
    owner, what = (closed["clf"], pictures) if fault.inject in CLASSIFIES else (closed["llm"], asked)
    with pytest.raises(fault.error) as caught:
        used(fault.inject, owner, what)
    assert fault.words in caught.value.message
    assert caught.value.hint
    owner.close()


@pytest.mark.parametrize(**rows(WITHIN_A_LOOP))
async def test_it_works_in_a_cell_of_a_notebook(fault, clf, llm, pictures, asked):
    is_image = fault.inject in CLASSIFIES
    before = clf.calibration
    result = USES[fault.inject](clf if is_image else llm, pictures if is_image else asked)
    assert not inspect.isawaitable(result)
    assert result
    clf.calibration = before


@pytest.mark.parametrize(**rows(IN_FLIGHT))
def test_whoever_waits_is_answered_in_time(fault, fresh, open_llm, labels, pictures):
    is_image = fault.inject in CLASSIFIES
    owner = fresh(labels=labels, workers=1) if is_image else open_llm()
    what = pictures if is_image else {"max_tokens": 40, "ignore_eos": True}
    outcomes, begun = [], threading.Event()

    def work():
        try:
            for _ in itertools.count():
                outcomes.append(used(fault.inject, owner, what))
                begun.set()
        except EngineDeadError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert begun.wait(60)
    time.sleep(0.02)
    closing = time.monotonic()
    owner.close()
    for thread in threads:
        thread.join(20)
    assert time.monotonic() - closing < 20
    assert sum(isinstance(outcome, EngineDeadError) for outcome in outcomes) == 3
    for error in outcomes:
        assert not isinstance(error, BaseException) or fault.words in error.message


#: A few of those that the long run presses, for each run of the tests.
SHORT = ("classify_many", "labels", "chat", "stream", "run", "a classifier that is dropped")
PRESSED = tuple(Fault(KIND, f"Ctrl-C at random moments: {name}", {name: call}) for name, call in pressed.CALLS.items())


def press(calls, presses, babbler, tmp_path, seed):
    done = pressed.press(calls, presses, model=babbler, work=tmp_path, sources=SOURCES, seed=seed, within=0.3)
    assert (done.code, done.closed) == (0, True), done.said
    assert done.sent == done.surfaced == dict.fromkeys(calls, presses)
    assert done.right == list(calls)


posix = pytest.mark.skipif(sys.platform == "win32", reason="a process cannot press Ctrl-C for another there")


@posix
def test_a_few_presses_come_out_each_and_leave_the_engines_right(babbler, tmp_path):
    press({name: pressed.CALLS[name] for name in SHORT}, 3, babbler, tmp_path, seed=1)


@posix
@pytest.mark.slow
@pytest.mark.parametrize(**rows(PRESSED))
def test_every_press_comes_out_and_leaves_the_engines_right(fault, babbler, tmp_path):
    press(fault.inject, 200, babbler, tmp_path, seed=2)


TWO = (Fault(KIND, "one of two engines dies", None),)


@pytest.mark.parametrize(**rows(TWO))
def test_the_other_engine_answers_as_before(fault, open_llm, clf, llm, pictures, good, asked, same):
    before = Replied.of(llm.chat("hello", **asked))
    dying = open_llm()
    dying._engine._core._loop._context = None  # whatever is called on it raises
    with pytest.raises(EngineDeadError):
        dying.chat("hello", **asked)
    assert Replied.of(llm.chat("hello", **asked)) == before
    same(clf.classify(pictures[0]), good[0])
