"""A prediction set holds the right label as often as asked."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from examples import examples
from fastinfer.calibrating.conformal import least_probability, log_odds_against, rank_of
from fastinfer.calibrating.temperature import shares_at
from fastinfer.errors import LabelError, PresetError

COVERAGES = (0.8, 0.9, 0.95)


def share_covered(calibration: Any, said: np.ndarray, truth: np.ndarray) -> float:
    """How often the right label is in the set."""
    within = [log_odds_against(row, calibration.temperature) <= calibration.threshold for row in said]
    return float(np.mean([inside[place] for inside, place in zip(within, truth, strict=True)]))


@pytest.mark.parametrize(("labels", "temperature"), [(10, 3.0), (100, 0.4)])
def test_new_images_are_covered_as_often_as_asked(answers: Any, fitted: Any, labels: int, temperature: float) -> None:
    covered: dict[float, list[float]] = {coverage: [] for coverage in COVERAGES}
    for seed in range(15):
        said, truth = answers(seed, 500, labels, temperature)
        calibration = fitted(said[:200], truth[:200])
        for coverage in COVERAGES:
            covered[coverage].append(share_covered(calibration.at(coverage), said[200:], truth[200:]))
    for coverage in COVERAGES:
        assert np.mean(covered[coverage]) == pytest.approx(coverage, abs=0.02)


@pytest.mark.parametrize("count", [20, 40])
def test_a_temperature_from_the_same_images_moves_the_coverage_by_less_than_half_a_point(
    answers: Any, fitted: Any, count: int
) -> None:
    """Beside the temperature that the answers were made with, which owes nothing to the images."""
    differences = []
    for seed in range(50):
        said, truth = answers(1000 + seed, count + 100, 10, 2.5)
        calibration = fitted(said[:count], truth[:count])
        right = [log_odds_against(row, 2.5)[place] for row, place in zip(said, truth, strict=True)]
        threshold = sorted(right[:count])[rank_of(count, 0.9) - 1]
        differences.append(
            share_covered(calibration, said[count:], truth[count:]) - np.mean(np.array(right[count:]) <= threshold)
        )
    assert abs(np.mean(differences)) < 0.005


@settings(max_examples=examples(60), deadline=None)
@given(logs=arrays(np.float64, st.integers(2, 8), elements=st.floats(-30, 0)), temperature=st.floats(0.8, 20))
def test_scores_are_the_log_odds_against_each_label(logs: np.ndarray, temperature: float) -> None:
    scores = log_odds_against(logs, temperature)
    shares = shares_at(logs, temperature)
    for score, share in zip(scores.tolist(), shares.tolist(), strict=True):
        assert least_probability(score) == pytest.approx(share, rel=1e-9)
        if share < 0.999:
            assert score == pytest.approx(math.log((1 - share) / share), abs=1e-9)


def test_scores_tell_probabilities_apart_that_a_float_rounds_to_1() -> None:
    sure, surer = log_odds_against(np.array([0.0, -60.0]), 1.0), log_odds_against(np.array([0.0, -900.0]), 1.0)
    assert sure.tolist() == [-60.0, 60.0]
    assert surer.tolist() == [-900.0, 900.0]
    assert shares_at(np.array([0.0, -60.0]), 1.0)[0] == 1.0
    assert np.isfinite(log_odds_against(np.array([0.0, -np.inf, -np.inf]), 0.05)).all()
    assert (least_probability(-900.0), least_probability(900.0)) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("count", "coverage", "rank"),
    [
        (9, 0.9, 9),
        (19, 0.95, 19),
        (99, 0.99, 99),
        (100, 0.9, 91),
        (9, 0.7, 7),
        (29, 0.1, 3),
        (1, 0.5, 1),
        (450, 0.8, 361),
    ],
)
def test_the_rank_is_that_of_the_decimal_that_was_written(count: int, coverage: float, rank: int) -> None:
    assert rank_of(count, coverage) == rank


@pytest.mark.parametrize(("count", "coverage", "least"), [(8, 0.9, 9), (18, 0.95, 19), (500, 0.999, 999), (0, 0.5, 1)])
def test_too_few_images_for_a_coverage_are_an_error_that_says_how_many_it_takes(
    count: int, coverage: float, least: int
) -> None:
    with pytest.raises(LabelError, match=f"needs at least {least} labelled images; there are {count}"):
        rank_of(count, coverage)
    assert rank_of(least, coverage) == least


@pytest.mark.parametrize("coverage", [0, 1, -0.1, 1.5, 90, math.nan, math.inf, True, "0.9", None])
def test_a_coverage_that_is_none_is_an_error(coverage: Any) -> None:
    with pytest.raises(PresetError, match="is not legal") as caught:
        rank_of(1000, coverage)
    assert caught.value.hint
