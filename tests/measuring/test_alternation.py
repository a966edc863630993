"""Turns cancel a drift, and only what is clear counts."""

from __future__ import annotations

import random

import pytest

from fastinfer.measuring import alternate, judge


def test_the_two_are_called_in_turns_that_begin_with_each_of_them() -> None:
    called = []
    pairs = alternate(lambda: called.append("a") or "a", lambda: called.append("b") or "b", 3)
    assert "".join(called) == "abbaab"
    assert pairs == [("a", "b")] * 3


def test_a_machine_that_slows_down_steadily_misleads_nobody() -> None:
    speed = iter(0.97**n for n in range(100))
    pairs = alternate(lambda: 100 * next(speed), lambda: 100 * next(speed), 4)
    assert judge([b / a for a, b in pairs]).verdict == "undecided"


@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [
        ([1.5], "undecided"),  # one round has no spread
        ([1.05, 1.06], "better"),
        ([0.95, 0.94], "worse"),
        ([1.005, 1.006, 1.005], "undecided"),  # sure, and not worth it
        ([1.3, 0.9, 1.1], "undecided"),
        ([1.04, 1.05, 1.06, 1.05], "better"),
        ([1.0, 1.0, 1.0], "undecided"),
    ],
)
def test_better_is_what_is_better_beyond_the_rounds_spread(ratios: list[float], verdict: str) -> None:
    assert judge(ratios).verdict == verdict


@pytest.mark.parametrize("rounds", [2, 3, 4, 6])
def test_of_two_equal_ones_the_second_is_seldom_called_better(rounds: int) -> None:
    chance = random.Random(rounds)
    better = sum(judge([chance.gauss(1, 0.04) for _ in range(rounds)]).verdict == "better" for _ in range(2000))
    assert better / 2000 < 0.16


@pytest.mark.parametrize("rounds", [2, 4])
def test_a_tenth_more_shows_through_noise_of_two_percent(rounds: int) -> None:
    chance = random.Random(rounds)
    found = sum(judge([chance.gauss(1.1, 0.02) for _ in range(rounds)]).verdict == "better" for _ in range(2000))
    assert found / 2000 > 0.9
