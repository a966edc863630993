from __future__ import annotations

import pytest

from fastinfer.comparing.statistics import share
from fastinfer.reporting.intervals import f1_estimate, share_of


def test_at_95_percent_a_share_is_that_of_a_comparison() -> None:
    for count, total in ((0, 1), (0, 40), (3, 7), (40, 40), (1900, 2000)):
        ours, theirs = share_of(count, total, 0.95), share(count, total)
        assert ours is not None
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))
    assert share_of(0, 0, 0.95) is None


def test_f1_is_the_harmonic_mean_and_lies_in_its_interval() -> None:
    # Precision 30/40, recall 30/50.
    found = f1_estimate(30, 50, 40, 0.95)
    assert found is not None
    assert found.value == pytest.approx(2 * 0.75 * 0.6 / (0.75 + 0.6))
    assert 0 < found.low < found.value < found.high < 1
    # The share of both is 30/60, whose interval is 0.377 to 0.623.
    assert (found.low, found.high) == pytest.approx((2 * 0.3774 / 1.3774, 2 * 0.6226 / 1.6226), abs=1e-3)


def test_f1_ends_at_0_and_1_and_is_nothing_without_images() -> None:
    none, all_of_them = f1_estimate(0, 5, 5, 0.95), f1_estimate(9, 9, 9, 0.95)
    assert none is not None
    assert all_of_them is not None
    assert (none.value, none.low) == (0.0, 0.0)
    assert (all_of_them.value, all_of_them.high) == (1.0, 1.0)
    assert f1_estimate(0, 0, 0, 0.95) is None
