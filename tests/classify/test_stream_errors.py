"""Errors in a stream: at the position where they belong, and never at the cost of a sibling."""

from __future__ import annotations

import gc
import pickle
import weakref

import numpy as np
import pytest

from beside import eventually
from fastinfer.errors import FastInferError, ImageDecodeError

BAD = b"no image"


async def collect(results):
    return [result async for result in results]


@pytest.fixture(scope="module")
def good(shared, pictures):
    return [shared.classify(image) for image in pictures]


def check_with_a_hole(results, good, hole, same):
    assert len(results) == len(good) + 1
    assert isinstance(results[hole].error, ImageDecodeError)
    assert not results[hole].ok
    for result, expected in zip(results[:hole] + results[hole + 1 :], good, strict=True):
        assert result.ok
        same(result, expected)


@pytest.mark.parametrize("hole", [0, 3, 6])
async def test_errors_return_gives_the_failed_one_as_a_result(shared, pictures, good, same, hole):
    images = [*pictures[:hole], BAD, *pictures[hole:]]
    check_with_a_hole(list(shared.classify_many(images, errors="return")), good, hole, same)
    check_with_a_hole(await collect(shared.aclassify_many(images, errors="return")), good, hole, same)


def test_a_failed_result_says_what_failed_and_nothing_else(shared):
    (result,) = shared.classify_many([BAD], errors="return")
    assert (result.label, result.confidence, result.probabilities, result.label_mass) == (None, 0.0, {}, 0.0)
    assert result.timings is None
    assert result.source == "<bytes, 8 bytes>"
    assert "<bytes, 8 bytes>" in str(result.error)
    assert str(result).startswith("<bytes, 8 bytes>: ImageDecodeError: ")
    assert result.to_dict()["error"] == {"type": "ImageDecodeError", "message": str(result.error)}
    assert str(pickle.loads(pickle.dumps(result)).error) == str(result.error)


async def test_a_failed_result_that_is_kept_keeps_nothing_of_its_image(shared):
    async def stream(images):
        return await collect(shared.aclassify_many(images, errors="return"))

    async def thread(images):
        return list(shared.classify_many(images, errors="return"))

    gc.disable()  # it would find the image in the end, long after its memory was wanted
    try:
        for way in (thread, stream):
            image = np.zeros((4, 4))
            gone = weakref.ref(image)
            (result,) = await way([image])
            del image
            eventually(lambda gone=gone: gone() is None)  # a thread that decodes lets go a moment later
            assert isinstance(result.error, ImageDecodeError)
    finally:
        gc.enable()


@pytest.mark.parametrize("hole", [0, 4])
async def test_errors_raise_raises_at_the_position(shared, pictures, good, same, hole):
    images = [*pictures[:hole], BAD, *pictures[hole:]]
    results, got = shared.classify_many(images), []
    with pytest.raises(ImageDecodeError):
        got.extend(results)  # what came before stays in the list
    assert len(got) == hole
    for result, expected in zip(got, good, strict=False):
        same(result, expected)
    assert list(results) == []

    waited = []
    with pytest.raises(ImageDecodeError):  # noqa: PT012  the results before the error are wanted
        async for result in shared.aclassify_many(images):
            waited.append(result)
    assert len(waited) == hole


def test_all_bad_is_an_error_each(shared):
    results = list(shared.classify_many([BAD] * 50, errors="return"))
    assert len(results) == 50
    assert all(isinstance(r.error, ImageDecodeError) for r in results)


@pytest.mark.parametrize("wrong", ["ignore", "RAISE", "", None])
def test_another_value_of_errors_is_refused_at_the_call(shared, pictures, wrong):
    with pytest.raises(ValueError, match='"raise" or "return"'):
        shared.classify_many(pictures, errors=wrong)
    with pytest.raises(ValueError, match='"raise" or "return"'):
        shared.aclassify_many(pictures, errors=wrong)


def test_bad_labels_are_refused_at_the_call(shared, pictures):
    with pytest.raises(FastInferError):
        shared.classify_many(pictures, labels=[])
    with pytest.raises(FastInferError):
        shared.aclassify_many(pictures, labels=["a", "a"])


@pytest.mark.parametrize("errors", ["raise", "return"])
@pytest.mark.parametrize("before", [0, 2, 6])
async def test_an_input_that_raises_does_so_after_the_results_before_it(shared, pictures, good, same, errors, before):
    def source():
        yield from pictures[:before]
        raise LookupError("the folder went away")

    async def waiting_source():
        for image in source():
            yield image

    got = []
    with pytest.raises(LookupError, match="the folder went away"):
        got.extend(shared.classify_many(source(), errors=errors))
    waited = []
    with pytest.raises(LookupError, match="the folder went away"):  # noqa: PT012  as above
        async for result in shared.aclassify_many(waiting_source(), errors=errors):
            waited.append(result)
    for results in (got, waited):
        assert len(results) == before
        for result, expected in zip(results, good, strict=False):
            same(result, expected)


def test_a_library_error_that_the_input_raises_is_not_taken_for_an_image(shared, pictures):
    def source():
        yield pictures[0]
        raise ImageDecodeError("raised by the caller's own generator")

    results = shared.classify_many(source(), errors="return")
    assert next(results).ok
    with pytest.raises(ImageDecodeError, match="own generator"):
        next(results)


def test_the_classifier_goes_on_after_any_of_it(shared, pictures, good, same):
    with pytest.raises(ImageDecodeError):
        list(shared.classify_many([pictures[0], BAD]))
    same(shared.classify(pictures[0]), good[0])
