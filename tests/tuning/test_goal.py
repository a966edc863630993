"""What is better for an aim, and which aims make sense."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fastinfer.errors import PresetError
from fastinfer.measuring import Figures
from fastinfer.tuning import AIMS, Goal

ONE = Figures("chat", 8, 0, 2.0, 100.0, 4, 0.5, 0.7, 0.9, "4 at a time", 200, 80, 8, 0.1, 0.2, 0.01, 0.03, 1000, None)


def figures(**changes: Any) -> Figures:
    return replace(ONE, **changes)


@pytest.mark.parametrize(
    ("aim", "better"),
    [
        ("throughput", {"throughput": 200.0}),
        ("first-token-latency", {"ttft_p95": 0.1}),
        ("inter-token-latency", {"inter_token_p95": 0.015}),
        ("memory", {"memory": 500}),
    ],
)
def test_twice_as_good_is_a_ratio_of_two(aim: Any, better: dict[str, Any]) -> None:
    goal = Goal("chat", aim)
    goal.check()
    assert goal.ratio(ONE, figures(**better)) == pytest.approx(2)
    assert goal.ratio(figures(**better), ONE) == pytest.approx(0.5)


def test_the_memory_is_the_gpus_where_one_is_used() -> None:
    assert Goal("chat", "memory").ratio(figures(gpu_memory=4000), figures(gpu_memory=1000, memory=9000)) == 4


def test_an_images_first_token_is_its_answer() -> None:
    goal = Goal("classify", "first-token-latency")
    assert goal.ratio(figures(kind="classify"), figures(kind="classify", latency_p95=0.35)) == pytest.approx(2)


def test_within_a_limit_throughput_counts_and_beyond_it_the_way_back() -> None:
    goal = Goal("chat", "inter-token-latency", 0.04)
    fast, slow = figures(throughput=300.0, inter_token_p95=0.05), figures(throughput=60.0, inter_token_p95=0.039)
    more, nearer = figures(throughput=150.0, inter_token_p95=0.035), figures(throughput=10.0, inter_token_p95=0.045)
    ranked = sorted([more, fast, nearer, slow, ONE], key=lambda one: goal.ratio(ONE, one), reverse=True)
    assert ranked == [more, ONE, slow, nearer, fast]
    assert goal.ratio(ONE, more) == pytest.approx(1.5)
    assert "within the limit" in goal.describe(goal.ratio(fast, slow))
    assert "outside the limit" in goal.describe(goal.ratio(slow, fast))
    assert goal.describe(1.5) == "1.500 times"


def test_a_figure_that_was_not_seen_says_nothing() -> None:
    assert Goal("chat", "memory").ratio(figures(memory=None), figures(memory=None)) == 1
    assert Goal("chat", "inter-token-latency").ratio(ONE, figures(inter_token_p95=None)) == 1


@pytest.mark.parametrize(
    ("kind", "aim", "limit"),
    [
        ("classify", "inter-token-latency", None),
        ("chat", "speed", None),
        ("chat", "throughput", 3.0),
        *[("chat", "memory", limit) for limit in (0.0, -1.0, float("inf"), float("nan"))],
    ],
)
def test_what_cannot_be_aimed_at_is_refused(kind: Any, aim: Any, limit: float | None) -> None:
    with pytest.raises(PresetError):
        Goal(kind, aim, limit).check()


@pytest.mark.parametrize("aim", AIMS)
@pytest.mark.parametrize("limit", [None, 0.5])
def test_every_goal_is_a_sentence(aim: Any, limit: float | None) -> None:
    assert Goal("chat", aim, limit).sentence.startswith("the ")
