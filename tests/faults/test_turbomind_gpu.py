"""The matrix on TurboMind: bad images, a binding that fails, closing under way; on one loaded engine where it lives.

Run with ``pytest -m gpu tests/faults`` on a machine with an NVIDIA GPU and the extra ``turbomind``.
"""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

import fastinfer
from fastinfer.engines.turbomind.rows import HiddenRows
from fastinfer.errors import EngineDeadError, EngineError, ImageDecodeError, RequestTimeoutError
from fault_matrix import Fault, rows
from turned_samples import turned_samples
from ways import stands_in_its_place

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]

LABELS = ["3", "7", "a blue square", "a car", "a fish", "a key", "a mushroom", "a purple heart"]
SMALL = {"cache_max_entry_count": 0.02, "max_batch_size": 16, "prompt": "What is this?", "open_prompt": "What is this?"}
BAD = (
    Fault("image bytes", "empty, on TurboMind", b"", ImageDecodeError, "it is empty"),
    Fault("image bytes", "garbage, on TurboMind", bytes(range(256)) * 20, ImageDecodeError, "known format"),
)
FAILING = (Fault("engine", "scoring rows fails once, on TurboMind", None, EngineError, "cannot be scored"),)
GARBAGE = (Fault("engine", "rows that are no numbers, on TurboMind", float("nan"), EngineError, "no numbers"),)
FATAL = (Fault("engine", "scoring rows raises, on TurboMind", RuntimeError("CUDA error"), EngineDeadError, "died"),)
CLOSING = (Fault("lifecycle", "close under every way, on TurboMind", None, EngineDeadError),)
LATE = (Fault("engine", "scoring a row takes too long, on TurboMind", 0.3, RequestTimeoutError),)


def opened():
    checkpoint = Path(__file__).resolve().parents[2] / "training/embedded"
    return fastinfer.classifier("prod-exact", labels=LABELS, model=checkpoint, dtype="float16", **SMALL)


@pytest.fixture(scope="module")
def turbomind():
    with opened() as made:
        yield made


@pytest.fixture(scope="module")
def samples():
    return turned_samples((0, 9))[:12]


@pytest.fixture(scope="module")
def expected(turbomind, samples):
    return list(turbomind.classify_many(samples))


def close_to(one, other):
    for label, p in one.probabilities.items():
        assert abs(p - other.probabilities[label]) <= 0.02, label


async def ways(clf, images):
    """Those of the ways that TurboMind has; it forms its batches itself."""

    def attempt(image):
        try:
            return clf.classify(image, timeout=60)
        except fastinfer.errors.FastInferError as error:
            return error

    yield "classify", [attempt(image) for image in images]
    yield "aclassify", await asyncio.gather(*map(clf.aclassify, images), return_exceptions=True)
    yield "classify_many", [r.error or r for r in clf.classify_many(images, errors="return")]
    yield "aclassify_many", [r.error or r async for r in clf.aclassify_many(images, errors="return")]


@pytest.mark.parametrize(**rows(BAD))
async def test_it_fails_alone_whichever_way_it_comes(fault, turbomind, samples, expected):
    images = [*samples[:3], fault.inject, *samples[3:6]]
    async for way, found in ways(turbomind, images):
        error = stands_in_its_place(way, found, expected[:6], 3, close_to)
        assert type(error) is fault.error
        assert fault.words in error.message
        assert error.hint


@pytest.mark.parametrize(**rows(FAILING))
async def test_what_was_scored_together_fails_and_the_next_call_is_right(
    fault, turbomind, samples, expected, monkeypatch
):
    real, wanted = HiddenRows.score, []

    def score(*arguments):
        if wanted:
            raise wanted.pop()
        return real(*arguments)

    monkeypatch.setattr(HiddenRows, "score", score)
    asked = ways(turbomind, samples)
    for _ in range(4):
        wanted.append(EngineError("The rows cannot be scored.", hint="This is a test."))
        way, found = await anext(asked)
        assert not wanted
        errors = [one for one in found if isinstance(one, BaseException)]
        assert errors, way
        assert all(type(error) is fault.error and fault.words in error.message for error in errors)
        for one, other in zip(found, expected, strict=True):
            if not isinstance(one, BaseException):
                close_to(one, other)
    close_to(turbomind.classify(samples[0]), expected[0])


@pytest.mark.parametrize(**rows(GARBAGE))
async def test_numbers_that_are_none_are_an_error(fault, turbomind, samples, expected, monkeypatch):
    real = HiddenRows.score
    with monkeypatch.context() as patch:
        patch.setattr(
            HiddenRows, "score",
            lambda *arguments: [replace(row, tokens=row.tokens * fault.inject) for row in real(*arguments)],
        )  # fmt: skip
        async for way, found in ways(turbomind, samples[:3]):
            assert all(type(error) is fault.error and fault.words in error.message for error in found), way
    close_to(turbomind.classify(samples[0]), expected[0])


@pytest.mark.parametrize(**rows(LATE))
async def test_a_timeout_is_kept_and_the_next_call_is_right(fault, turbomind, samples, expected, monkeypatch):
    over, real = threading.Event(), HiddenRows.score
    with monkeypatch.context() as patch:
        patch.setattr(HiddenRows, "score", lambda *arguments: (over.wait(60), real(*arguments))[1])
        begun = time.monotonic()
        with pytest.raises(fault.error):
            turbomind.classify(samples[0], timeout=fault.inject)
        with pytest.raises(fault.error):
            await turbomind.aclassify(samples[0], timeout=fault.inject)
        assert time.monotonic() - begun < 10
        over.set()
        close_to(turbomind.classify(samples[0], timeout=60), expected[0])


@pytest.mark.parametrize(**rows(CLOSING))
def test_whoever_waits_is_answered_in_time(fault, samples):
    clf = opened()
    outcomes = []

    def work(classify):
        try:
            while True:
                outcomes.extend(classify())
        except EngineDeadError as error:
            outcomes.append(error)

    async def several():
        return await asyncio.gather(*map(clf.aclassify, samples))

    threads = [
        threading.Thread(target=work, args=(way,))
        for way in (
            lambda: [clf.classify(samples[0])],
            lambda: list(clf.classify_many(samples)),
            lambda: asyncio.run(several()),
        )
    ]
    for thread in threads:
        thread.start()
    time.sleep(1)
    begun = time.monotonic()
    clf.close()
    clf.close()
    for thread in threads:
        thread.join(30)
    assert time.monotonic() - begun < 30
    assert sum(isinstance(outcome, fault.error) for outcome in outcomes) == 3
    with pytest.raises(fault.error):
        clf.classify(samples[0])


@pytest.mark.parametrize(**rows(FATAL))
async def test_the_engine_dies_and_everyone_is_told_why(fault, samples, monkeypatch):
    with opened() as dying:
        dying.classify(samples[0])
        monkeypatch.setattr(HiddenRows, "score", lambda *_: (_ for _ in ()).throw(fault.inject))
        found = await asyncio.wait_for(asyncio.gather(*map(dying.aclassify, samples), return_exceptions=True), 60)
        async for _, later in ways(dying, samples[:2]):
            found += later
        for error in found:
            assert type(error) is fault.error
            assert fault.words in error.message
            assert error.__cause__ is fault.inject
            assert error.hint
