"""Four ways to ask, one answer: classify, classify_many, aclassify and aclassify_many."""

from __future__ import annotations

import asyncio
import inspect

import numpy as np
import pytest

from fastinfer import Classifier


@pytest.fixture(params=["labels", "open set"])
def classifier(request, shared, shared_open):
    return shared if request.param == "labels" else shared_open


async def collect(results):
    return [result async for result in results]


async def drip(images):
    for image in images:
        await asyncio.sleep(0)
        yield image


async def test_the_four_ways_agree(classifier, pictures, same):
    one_by_one = [classifier.classify(image) for image in pictures]
    others = [
        list(classifier.classify_many(pictures)),
        [await classifier.aclassify(image) for image in pictures],
        await asyncio.gather(*[classifier.aclassify(image) for image in pictures]),
        await collect(classifier.aclassify_many(pictures)),
        await collect(classifier.aclassify_many(drip(pictures))),
    ]
    for results in others:
        assert len(results) == len(pictures)
        for result, expected in zip(results, one_by_one, strict=True):
            same(result, expected)
            assert result.label == expected.label
            assert result.prompt_tokens == expected.prompt_tokens


async def test_the_four_ways_agree_with_labels_for_one_call(shared_open, pictures, same):
    chosen = ["circle", "square", "triangle"]
    expected = [shared_open.classify(image, labels=chosen) for image in pictures]
    many = list(shared_open.classify_many(pictures, labels=chosen))
    waited = [await shared_open.aclassify(image, labels=chosen) for image in pictures]
    waited_many = await collect(shared_open.aclassify_many(pictures, labels=chosen))
    for results in (many, waited, waited_many):
        for result, one in zip(results, expected, strict=True):
            same(result, one)
    assert shared_open.labels is None


@pytest.mark.parametrize("form", [list, tuple, iter, lambda images: (image for image in images)])
async def test_any_iterable_will_do_and_the_order_is_kept(shared, pictures, form):
    expected = [shared.classify(image).label for image in pictures] * 6
    images = pictures * 6
    assert [r.label for r in shared.classify_many(form(images))] == expected
    assert [r.label for r in await collect(shared.aclassify_many(form(images)))] == expected
    assert len(set(expected)) > 2


@pytest.mark.parametrize("form", [list, iter])
async def test_nothing_in_gives_nothing_out(shared, form):
    assert list(shared.classify_many(form([]))) == []
    assert await collect(shared.aclassify_many(form([]))) == []
    assert await collect(shared.aclassify_many(drip([]))) == []


async def test_one_image_gives_one_result(shared, pictures, same):
    (one,) = shared.classify_many([pictures[0]])
    (other,) = await collect(shared.aclassify_many([pictures[0]]))
    same(one, other)


def test_every_form_of_an_image_gives_the_same_answer(shared, pictures, png, same, tmp_path):
    image, data = pictures[0], png(pictures[0])
    path = tmp_path / "red.png"
    path.write_bytes(data)
    expected = shared.classify(image)
    forms = [path, str(path), data, bytearray(data), memoryview(data), np.asarray(image), image.convert("RGBA")]
    for result in shared.classify_many(forms):
        same(result, expected)
    assert shared.classify(path).source == "red.png"


def test_both_kinds_take_the_same_arguments():
    def arguments(method):
        return [(p.name, p.default, p.kind) for p in inspect.signature(method).parameters.values()]

    assert arguments(Classifier.classify) == arguments(Classifier.aclassify)
    assert arguments(Classifier.classify_many) == arguments(Classifier.aclassify_many)


def test_a_progress_bar_changes_no_result_and_stays_on_stderr(shared, pictures, capsys):
    quiet = [r.label for r in shared.classify_many(pictures)]
    assert [r.label for r in shared.classify_many(pictures, progress=True)] == quiet
    shown = capsys.readouterr()
    assert shown.out == ""
    assert f"{len(pictures)}/{len(pictures)}" in shown.err
