"""llama.cpp fails while images are classified, at the seam where it is called: a real engine, a failing call."""

from __future__ import annotations

import asyncio
import threading
import time

import numpy as np
import pytest

import fastinfer
from fastinfer.engines.llama.binding import llama, mtmd
from fastinfer.errors import (
    EngineDeadError,
    EngineError,
    EngineOutOfMemoryError,
    FastInferError,
    ModelLoadError,
    RequestTimeoutError,
)
from fault_matrix import Fault, rows
from ways import all_classifications

KIND = "engine"


def returns(module, function, code, error=EngineError, words=""):
    name = f"{function} returns {code} while images are classified"
    return Fault(KIND, name, (module, function, code), error, words or f"{abs(code)}")


def raises(function, raised):
    name = f"{function} raises {type(raised).__name__} while images are classified"
    return Fault(KIND, name, (llama, function, raised), EngineDeadError, "died", type(raised))


def fails_to_load(module, function, call, error, words):
    name = f"{function} gives nothing, call {call}, at load"
    return Fault(KIND, name, (module, function, call), error, words)


PASSING = (
    returns(llama, "llama_decode", 1),
    returns(llama, "llama_decode", 2),
    returns(llama, "llama_decode", -1),
    returns(llama, "llama_decode", -2, EngineOutOfMemoryError, "no memory"),
    returns(llama, "llama_decode", -3),
    returns(mtmd, "mtmd_batch_encode", 1, words="could not encode"),
    returns(mtmd, "mtmd_encode_chunk", 1, words="could not encode"),
)
GARBAGE = (Fault(KIND, "llama.cpp computes scores that are no numbers", None, EngineError, "no numbers"),)
FATAL = (
    raises("llama_decode", OSError("exception: access violation")),
    raises("llama_decode", MemoryError()),
    raises("llama_get_logits", ValueError("NULL pointer access")),
    raises("llama_synchronize", SystemExit(3)),
)
LOADING = (
    fails_to_load(llama, "llama_model_load_from_file", 1, ModelLoadError, "cannot load"),
    fails_to_load(llama, "llama_init_from_model", 1, EngineOutOfMemoryError, "could not create a context"),
    fails_to_load(llama, "llama_init_from_model", 3, EngineOutOfMemoryError, "could not create a context"),
    fails_to_load(mtmd, "mtmd_init_from_file", 2, ModelLoadError, "not a vision projector"),
)
HANGING = (Fault(KIND, "llama_decode hangs while images are classified", 0.2, RequestTimeoutError, "within 0.2 s"),)


class Once:
    """Stands in front of a function of llama.cpp; the next call after ``arm`` fails, the others go through."""

    def __init__(self, monkeypatch, module, function, outcome):
        self._real, self._outcome, self._armed = getattr(module, function), outcome, threading.Event()
        self.fired = 0
        monkeypatch.setattr(module, function, self)

    def arm(self):
        self._armed.set()

    def disarm(self):
        self._armed.clear()

    def __call__(self, *arguments):
        if not self._armed.is_set():
            return self._real(*arguments)
        self._armed.clear()
        self.fired += 1
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return self._outcome(self._real(*arguments)) if callable(self._outcome) else self._outcome


def check(found, good, fault, same, way):
    """Some failed as the row says, those that shared their batch; all others are as without the fault."""
    errors = [one for one in found if isinstance(one, BaseException)]
    assert errors, way
    for error in errors:
        assert type(error) is fault.error, (way, error)
        assert fault.words in error.message
        assert error.hint
    for one, other in zip(found, good, strict=way.endswith("raising") is False):
        if not isinstance(one, BaseException):
            same(one, other)


@pytest.mark.parametrize(**rows(PASSING + GARBAGE))
async def test_what_shares_the_batch_fails_and_the_next_call_is_right(fault, clf, pictures, good, same, monkeypatch):
    def garbage(pointer):
        scores = np.ctypeslib.as_array(pointer, shape=(1 << 8,))
        scores[:] = np.nan
        return pointer

    module, function, code = fault.inject or (llama, "llama_get_logits", garbage)
    images = pictures[:1] if function == "mtmd_encode_chunk" else pictures[:2]
    faults = Once(monkeypatch, module, function, code)
    ways = all_classifications(clf, images)
    fired = 0
    while True:
        faults.arm()
        try:
            way, found = await anext(ways)
        except StopAsyncIteration:
            break
        if faults.fired > fired:
            fired = faults.fired
            check(found, good[: len(images)] if "raising" not in way else good[: len(found)], fault, same, way)
        faults.disarm()
        same(clf.classify(images[0]), good[0])
    # Whether two images meet in a batch is a matter of time.
    assert fired >= (1 if function == "mtmd_batch_encode" else 5)


@pytest.mark.parametrize(**rows(FATAL))
async def test_the_engine_dies_and_everyone_is_told_why(fault, fresh, pictures, good, labels, same, monkeypatch):
    module, function, raised = fault.inject
    freed = []
    real = llama.llama_free
    monkeypatch.setattr(llama, "llama_free", lambda handle: (freed.append(1), real(handle))[1])
    dying = fresh(labels=labels, workers=1)
    dying.classify(pictures[0])
    with monkeypatch.context() as patch:
        faults = Once(patch, module, function, raised)
        faults.arm()
        begun = time.monotonic()
        several = asyncio.gather(*map(dying.aclassify, pictures), return_exceptions=True)
        found = [*await several, *(r.error for r in dying.classify_many(pictures, errors="return"))]
        assert time.monotonic() - begun < 20
    for error in found:
        assert type(error) is EngineDeadError
        assert error.__cause__ is raised
        assert error.hint
    async for way, later in all_classifications(dying, pictures[:2]):
        assert all(type(error) is EngineDeadError for error in later), way
    with pytest.raises(EngineDeadError):
        dying.labels = ["a", "b"]
    dying.close()
    dying.close()
    assert len(freed) == 1
    same(fresh(labels=labels, workers=1).classify(pictures[0]), good[0])


@pytest.mark.parametrize(**rows(LOADING))
def test_memory_that_is_gone_at_load_is_an_error_and_what_was_loaded_is_freed(
    fault, pictures, good, labels, same, monkeypatch
):
    _, function, call = fault.inject
    held = {"llama_free": "llama_init_from_model", "llama_model_free": "llama_model_load_from_file",
            "mtmd_free": "mtmd_init_from_file"}  # fmt: skip
    made, freed = [], []

    def watch(owner, name, seen, *, fails=0):
        real = getattr(owner, name)

        def watched(*arguments):
            if fails and seen.count(name) == fails - 1:
                return None
            result = real(*arguments)
            seen.append(name)
            return result

        monkeypatch.setattr(owner, name, watched)

    for free, make in held.items():
        owner = mtmd if free.startswith("mtmd") else llama
        watch(owner, make, made, fails=call if make == function else 0)
        watch(owner, free, freed)
    running = set(threading.enumerate())
    with pytest.raises(fault.error) as caught:
        fastinfer.classifier(labels=labels, workers=2)
    assert fault.words in caught.value.message
    assert caught.value.hint
    assert sorted(held[name] for name in freed) == sorted(made)
    assert not [thread for thread in set(threading.enumerate()) - running if thread.name.startswith("fastinfer-llama")]
    monkeypatch.undo()
    with fastinfer.classifier(labels=labels, workers=1, n_threads=1) as after:
        same(after.classify(pictures[0]), good[0])


@pytest.mark.parametrize(**rows(HANGING))
async def test_a_timeout_is_kept_and_afterwards_the_engine_is_usable(fault, clf, pictures, good, same, monkeypatch):
    over = threading.Event()
    real = llama.llama_decode

    def hang(context, batch):
        assert over.wait(60)
        return real(context, batch)

    monkeypatch.setattr(llama, "llama_decode", hang)
    begun = time.monotonic()
    with pytest.raises(fault.error) as caught:
        clf.classify(pictures[0], timeout=fault.inject)
    with pytest.raises(fault.error):
        await clf.aclassify(pictures[0], timeout=fault.inject)
    assert time.monotonic() - begun < 10
    assert fault.words in caught.value.message
    assert isinstance(caught.value, FastInferError)
    over.set()
    for picture, expected in zip(pictures, good, strict=True):
        same(clf.classify(picture), expected)
