"""A timeout for each image of many: late ones fail, the others are answered, and the classifier goes on."""

from __future__ import annotations

import time

import pytest

from fastinfer.engines.llama.forward import ForwardPass
from fastinfer.errors import EngineDeadError, RequestTimeoutError


@pytest.fixture
def slow(fresh, monkeypatch):
    """A classifier whose second batch takes two seconds."""
    classifier = fresh(labels=["red circle", "red square"], workers=1)
    original, calls = ForwardPass.score, []

    def score(self, images, trie):
        calls.append(1)
        if len(calls) == 2:
            time.sleep(2.0)
        return original(self, images, trie)

    monkeypatch.setattr(ForwardPass, "score", score)
    classifier.classify("data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
    return classifier


@pytest.mark.parametrize("reproducible", [False, True])
def test_late_images_fail_in_time_and_later_calls_are_answered(slow, pictures, reproducible):
    begun = time.monotonic()
    results = list(slow.classify_many(pictures, timeout=0.5, errors="return", reproducible=reproducible))
    assert time.monotonic() - begun < 1.9
    assert any(isinstance(result.error, RequestTimeoutError) for result in results)
    assert all(result.error is None or "within 0.5 s" in str(result.error) for result in results)
    assert all(result.ok for result in slow.classify_many(pictures, timeout=30, reproducible=reproducible))


async def test_so_they_do_for_asyncio(slow, pictures):
    results = [result async for result in slow.aclassify_many(pictures, timeout=0.5, errors="return")]
    assert any(isinstance(result.error, RequestTimeoutError) for result in results)
    slow.close()
    with pytest.raises(EngineDeadError):
        slow.aclassify_many(pictures, timeout=0.5)


def test_a_late_image_ends_calibrating(slow, pictures):
    labelled = [(picture, "red circle") for picture in pictures * 4]
    with pytest.raises(RequestTimeoutError, match=r"within 0.5 s"):
        slow.calibrate(labelled, timeout=0.5)
    assert slow.calibration is None
    assert slow.calibrate(labelled, timeout=30).count == len(labelled)


async def test_or_it_is_left_out(slow, pictures):
    labelled = [(picture, "red circle") for picture in pictures * 12]
    found = await slow.acalibrate(labelled, coverage=0.5, timeout=1.5, errors="skip")
    assert found.skipped > 0
    assert found.count + found.skipped == len(labelled)
