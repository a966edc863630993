"""Images in bulk, one at a time, and by clients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import fastinfer
from fastinfer.errors import ImageDecodeError
from fastinfer.measuring import measure_classify


@pytest.fixture(scope="module")
def classifier(labels: list[str]) -> Iterator[Any]:
    """One thread, since several wait for each other when tests run beside other work."""
    with fastinfer.classifier(model="embedded", labels=labels, workers=1, n_threads=1) as loaded:
        yield loaded


def test_every_image_is_classified_as_often_as_asked(classifier: Any, pictures: list[Any]) -> None:
    figures = measure_classify(classifier, pictures, passes=3)
    assert (figures.kind, figures.items, figures.errors, figures.tokens) == ("classify", 18, 0, 0)
    assert figures.throughput == pytest.approx(18 / figures.seconds)
    assert (figures.concurrency, figures.latency_load) == (None, "one at a time")
    assert 0 < figures.latency_p50 <= figures.latency_p95 <= figures.latency_p99
    assert figures.ttft_p50 is figures.inter_token_p50 is None
    assert 18 * 10 < figures.prompt_tokens < 18 * 200


def test_a_time_is_kept(classifier: Any, pictures: list[Any]) -> None:
    figures = measure_classify(classifier, pictures, seconds=0.1)
    assert figures.items >= 1
    assert 0.1 <= figures.seconds < 5


def test_clients_are_so_many(classifier: Any, pictures: list[Any]) -> None:
    figures = measure_classify(classifier, pictures, passes=2, concurrency=3, labels=["red circle", "line"])
    assert (figures.items, figures.concurrency, figures.latency_load) == (12, 3, "3 at a time")


def test_an_image_that_fails_is_an_error_beside_the_others(classifier: Any, pictures: list[Any]) -> None:
    for clients in (None, 2):
        figures = measure_classify(classifier, [pictures[0], b"no image", pictures[1]], concurrency=clients)
        assert (figures.items, figures.errors) == (2, 1)


@pytest.mark.parametrize("clients", [None, 1])
def test_where_no_image_can_be_read_the_first_error_comes(classifier: Any, clients: int | None) -> None:
    with pytest.raises(ImageDecodeError):
        measure_classify(classifier, [b"no image", "missing.png"], concurrency=clients)
    with pytest.raises(ImageDecodeError, match="no images"):
        measure_classify(classifier, [], concurrency=clients)


def test_ctrl_c_that_python_loses_ends_it(classifier: Any, pictures: list[Any], swallowed_interrupt: list[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        measure_classify(classifier, pictures, seconds=60)
    assert swallowed_interrupt
    assert measure_classify(classifier, pictures).items == 6
