"""Counting what engines do."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from fastinfer.engines.tally import SECONDS, ErrorCounts, Histogram, absorb, keep
from fastinfer.errors import ImageDecodeError, QueueFullError


@dataclass(slots=True)
class Tally:
    done: int = 0
    most: int = field(default=0, metadata={"join": max})
    now: int = field(default=0, metadata={"join": keep})
    seconds: Histogram = field(default_factory=Histogram)
    errors: ErrorCounts = field(default_factory=ErrorCounts)


def test_a_value_falls_into_the_first_bucket_whose_bound_is_not_below_it():
    histogram = Histogram((1.0, 2.0))
    for value in (0.0, 1.0, 1.5, 2.0, 2.1, 100.0):
        histogram.add(value)
    assert histogram.counts == [2, 2, 2]
    assert histogram.sum == pytest.approx(106.6)


def test_bounds_of_durations_ascend():
    assert list(SECONDS) == sorted(set(SECONDS))


def test_tallies_add_up_field_by_field_and_leave_the_second_as_it_was():
    one, two = Tally(done=1, most=7, now=3), Tally(done=2, most=5, now=9)
    for tally in (one, two):
        tally.seconds.add(0.02)
        tally.errors.add(QueueFullError("full"))
    two.errors.add(ImageDecodeError("bad"))
    absorb(one, two)
    assert (one.done, one.most, one.now) == (3, 7, 3)
    assert sum(one.seconds.counts) == 2
    assert one.errors.by_type() == {"QueueFullError": 2, "ImageDecodeError": 1}
    assert (two.done, sum(two.seconds.counts), two.errors.by_type()["QueueFullError"]) == (2, 1, 1)


def test_an_error_that_leaves_a_block_is_counted_and_goes_on():
    errors = ErrorCounts()
    with pytest.raises(QueueFullError), errors:
        raise QueueFullError("full")
    with errors:
        pass
    assert errors.by_type() == {"QueueFullError": 1}


def test_a_mistake_of_the_caller_is_not_counted():
    errors = ErrorCounts()
    with pytest.raises(TypeError), errors:
        raise TypeError
    assert errors.by_type() == {}
