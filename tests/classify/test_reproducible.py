"""Streams whose results are the same to the last bit, whatever else runs and however often they are interrupted."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from beside import beside
from fastinfer.errors import EngineDeadError, ImageDecodeError

Pictures = list[Image.Image]


def shares(results: Any) -> list[dict[str, float]]:
    return [result.probabilities for result in results]


@pytest.fixture(scope="module")
def many(draw: Callable[..., Image.Image]) -> Pictures:
    """21 pictures: two full groups and a part of one."""
    colours = ("red", "green", "blue", "black", "orange", "purple", "brown")
    return [draw(shape, colour) for shape in ("circle", "square", "triangle") for colour in colours]


@pytest.fixture(scope="module")
def expected(shared: Any, many: Pictures) -> list[dict[str, float]]:
    return shares(shared.classify_many(many, reproducible=True))


def test_they_are_the_answers_of_single_images(shared: Any, many: Pictures, same: Callable[..., None]) -> None:
    for image, result in zip(many, shared.classify_many(many, reproducible=True), strict=True):
        same(shared.classify(image), result)


def test_again_they_are_equal_to_the_last_bit(shared: Any, many: Pictures, expected: list[dict[str, float]]) -> None:
    assert shares(shared.classify_many(many, reproducible=True)) == expected


def test_other_work_beside_them_changes_nothing(shared: Any, many: Pictures, expected: list[dict[str, float]]) -> None:
    chance = random.Random(1)
    with beside(lambda: list(shared.classify_many(chance.choices(many, k=chance.randint(1, 9))))):
        for _ in range(3):
            assert shares(shared.classify_many(many, reproducible=True)) == expected


def test_another_number_of_workers_and_threads_changes_nothing(
    fresh: Callable[..., Any], labels: list[str], many: Pictures, expected: list[dict[str, float]]
) -> None:
    for options in ({"workers": 1, "n_threads": 1}, {"workers": 1, "n_threads": 2}, {"workers": 3, "n_threads": 3}):
        assert shares(fresh(labels=labels, **options).classify_many(many, reproducible=True)) == expected


@settings(max_examples=5, deadline=None)
@given(groups=st.integers(0, 2))
def test_what_was_done_up_to_the_end_of_a_group_need_not_be_done_again(
    shared: Any, many: Pictures, expected: list[dict[str, float]], groups: int
) -> None:
    done = groups * shared.group_size
    assert shares(shared.classify_many(many[done:], reproducible=True)) == expected[done:]


def test_the_async_stream_gives_the_same(shared: Any, many: Pictures, expected: list[dict[str, float]]) -> None:
    async def collect(images: Any) -> list[Any]:
        return [result async for result in shared.aclassify_many(images, reproducible=True)]

    assert shares(asyncio.run(collect(many))) == expected


def test_a_bad_image_harms_no_other(shared: Any, many: Pictures) -> None:
    images: list[Any] = list(many)
    images[3:3] = [b"no image"]
    results = list(shared.classify_many(images, reproducible=True, errors="return"))
    assert [i for i, result in enumerate(results) if not result.ok] == [3]
    assert isinstance(results[3].error, ImageDecodeError)
    assert all(result.provenance == results[0].provenance for result in results)


def test_a_group_of_bad_images_ends(shared: Any) -> None:
    results = list(shared.classify_many([b"no image"] * 9, reproducible=True, errors="return"))
    assert [type(result.error) for result in results] == [ImageDecodeError] * 9


def test_an_input_that_raises_gives_what_came_before(shared: Any, many: Pictures) -> None:
    def images() -> Iterator[Image.Image]:
        yield from many[:3]
        raise OSError("the camera is gone")

    results = shared.classify_many(images(), reproducible=True)
    assert len([next(results) for _ in range(3)]) == 3
    with pytest.raises(OSError, match="camera"):
        next(results)


def test_a_stream_left_early_leaves_the_classifier_usable(
    shared: Any, many: Pictures, expected: list[dict[str, float]]
) -> None:
    for _ in zip(range(3), shared.classify_many(many * 3, reproducible=True), strict=False):
        pass
    assert shares(shared.classify_many(many, reproducible=True)) == expected


def test_without_labels_too(shared_open: Any, many: Pictures) -> None:
    first, second = (list(shared_open.classify_many(many, reproducible=True)) for _ in range(2))
    assert shares(first) == shares(second)


def test_closing_answers_whoever_waits(fresh: Callable[..., Any], labels: list[str], many: Pictures) -> None:
    classifier = fresh(labels=labels)
    results = classifier.classify_many(many * 20, reproducible=True)
    next(results)
    classifier.close()
    with pytest.raises(EngineDeadError):
        list(results)
