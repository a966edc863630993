"""Faults inside the engine, put there by hand: one request fails, or everybody is told, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from fastinfer.engines.llama.forward import ForwardPass
from fastinfer.errors import EngineDeadError, EngineError, ImageDecodeError


@pytest.fixture
def classifier(fresh):
    return fresh(labels=["red circle", "red square"], workers=2)


def raise_once(monkeypatch, error, at=1):
    """Let the nth batch from now on fail."""
    original, calls = ForwardPass.score, []

    def score(self, images, trie):
        calls.append(len(images))
        if len(calls) == at:
            raise error
        return original(self, images, trie)

    monkeypatch.setattr(ForwardPass, "score", score)
    return calls


@pytest.mark.parametrize("error", [EngineError("decode failed"), ImageDecodeError("refused by the encoder")])
def test_a_batch_that_fails_is_an_error_for_its_images_and_the_engine_goes_on(
    classifier, pictures, monkeypatch, same, error
):
    expected = [classifier.classify(image) for image in pictures]
    raise_once(monkeypatch, error)
    with pytest.raises(type(error), match=str(error)):
        classifier.classify(pictures[0])
    for image, result in zip(pictures, expected, strict=True):
        same(classifier.classify(image), result)


def test_in_a_stream_only_the_images_of_that_batch_fail(classifier, pictures, monkeypatch, same):
    expected = [classifier.classify(image) for image in pictures]
    calls = raise_once(monkeypatch, EngineError("decode failed"), at=3)
    results = list(classifier.classify_many(pictures * 8, errors="return"))
    failed = [result for result in results if not result.ok]
    assert len(failed) == calls[2]
    for at, result in enumerate(results):
        if result.ok:
            same(result, expected[at % len(pictures)])


@pytest.mark.parametrize("error", [RuntimeError("a bug"), MemoryError(), SystemExit(3)], ids=repr)
def test_when_the_engine_dies_everybody_is_told_why(classifier, pictures, monkeypatch, caplog, error):
    raise_once(monkeypatch, error, at=2)
    begun = time.monotonic()

    def ask(image):
        try:
            return classifier.classify(image)
        except EngineDeadError as died:
            return died

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(ask, pictures * 10))
    assert time.monotonic() - begun < 20
    died = [answer for answer in answers if isinstance(answer, EngineDeadError)]
    assert died
    assert all(answer.__cause__ is error and answer.hint for answer in died)
    with pytest.raises(EngineDeadError, match="has died"):
        classifier.classify(pictures[0])
    assert any("has died" in record.message for record in caplog.records)
    classifier.close()


async def test_a_dead_engine_ends_asynchronous_requests_too(classifier, pictures, monkeypatch):
    raise_once(monkeypatch, RuntimeError("a bug"))
    answers = await asyncio.wait_for(
        asyncio.gather(*[classifier.aclassify(image) for image in pictures * 5], return_exceptions=True), 20
    )
    wrong = [a for a in answers if isinstance(a, BaseException) and not isinstance(a, EngineDeadError)]
    assert not wrong


def test_other_classifiers_are_untouched(classifier, shared, pictures, monkeypatch):
    with monkeypatch.context() as patch:
        raise_once(patch, RuntimeError("a bug"))
        with pytest.raises(EngineDeadError):
            classifier.classify(pictures[0])
    assert shared.classify(pictures[0]).ok
