"""One number makes probabilities as sure as they are right."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from examples import examples
from fastinfer.calibrating.temperature import (
    HIGHEST,
    LOWEST,
    centred,
    expected_calibration_error,
    fit_temperature,
    log_losses,
    shares_at,
)

LOGS = arrays(np.float64, st.tuples(st.integers(1, 12), st.integers(2, 5)), elements=st.floats(-800, 0))


@pytest.mark.parametrize("temperature", [0.2, 1.0, 2.5, 10.0])
def test_a_known_temperature_is_found(answers: Any, temperature: float) -> None:
    said, truth = answers(3, 4000, 20, temperature)
    assert fit_temperature(said, truth) == pytest.approx(temperature, rel=0.06)


def test_the_fitted_temperature_makes_overconfident_answers_honest(fitted: Any, answers: Any) -> None:
    calibration = fitted(*answers(4, 2000, 20, 4.0))
    assert calibration.before.calibration_error > 0.25
    assert calibration.after.calibration_error < 0.04
    assert calibration.after.log_loss < calibration.before.log_loss - 0.5


@settings(max_examples=examples(40), deadline=None)
@given(logs=LOGS, data=st.data())
def test_no_other_temperature_fits_better(logs: np.ndarray, data: st.DataObject) -> None:
    truth = np.array(data.draw(st.lists(st.integers(0, logs.shape[1] - 1), min_size=len(logs), max_size=len(logs))))
    found = fit_temperature(logs, truth)
    assert LOWEST <= found <= HIGHEST
    best = log_losses(logs, truth, found).mean()
    # Surer ones may fit better where the confidence is bounded, which makes no temperature higher than 1.
    for other in np.geomspace(found if found <= 1 else LOWEST, HIGHEST, 20):
        assert log_losses(logs, truth, other).mean() >= best - 1e-9 * (1 + abs(best))


def test_where_every_image_is_right_confidence_stays_below_what_so_many_can_show() -> None:
    said = np.log(np.full((30, 4), 0.1))
    said[:, 2] = math.log(0.7)
    found = fit_temperature(said, np.full(30, 2))
    assert LOWEST < found < 1
    assert shares_at(said, found).max(axis=1).mean() == pytest.approx(31 / 32)


def test_where_every_image_is_right_and_surer_than_that_nothing_changes() -> None:
    said = np.array([[0.0, -9.0], [-12.0, 0.0]])
    assert fit_temperature(said, np.array([0, 1])) == 1.0


def test_where_the_temperature_makes_no_difference_it_stays_1() -> None:
    assert fit_temperature(np.full((5, 3), -2.0), np.zeros(5, int)) == 1.0
    certain = np.array([[0.0, -np.inf], [-np.inf, 0.0]])
    assert fit_temperature(certain, np.array([0, 1])) == 1.0


def test_answers_that_are_always_wrong_end_at_the_highest_temperature(fitted: Any) -> None:
    said = np.tile([0.0, -5.0, -9.0], (30, 1))
    calibration = fitted(said, [2] * 30)
    assert calibration.temperature == pytest.approx(HIGHEST)
    assert "end of its range" in str(calibration)


def test_one_label_alone_among_the_images_is_enough_to_fit_and_is_said(fitted: Any, answers: Any) -> None:
    said, truth = answers(5, 3000, 4, 2.0)
    calibration = fitted(said[truth == 1], truth[truth == 1])
    assert LOWEST < calibration.temperature < HIGHEST
    assert calibration.counts[1] == calibration.count
    assert "Labels of which there was no image: 0, 2, 3." in str(calibration)


@settings(max_examples=examples(60), deadline=None)
@given(logs=LOGS, temperature=st.floats(LOWEST, HIGHEST))
def test_the_order_of_the_labels_stays_and_nothing_underflows(logs: np.ndarray, temperature: float) -> None:
    shares = shares_at(logs, temperature)
    assert shares.sum(axis=1) == pytest.approx(np.ones(len(logs)))
    for row, share in zip(logs, shares, strict=True):
        assert (np.diff(share[np.argsort(row, kind="stable")]) >= 0).all()
    losses = log_losses(logs, np.zeros(len(logs), int), temperature)
    assert np.isfinite(losses).all()


def test_labels_without_any_probability_are_numbers_all_the_same() -> None:
    assert centred(np.array([-3.0, -np.inf, -4.0])).tolist() == [0.0, -1e5, -1.0]
    assert centred(np.full(3, -np.inf)).tolist() == [0.0, 0.0, 0.0]
    assert shares_at(np.full(4, -np.inf), 2.0).tolist() == [0.25] * 4


def test_the_calibration_error_is_the_gap_between_confidence_and_share_right() -> None:
    confidences = np.array([0.9] * 10 + [1.0] * 10)
    right = np.array([True] * 6 + [False] * 4 + [True] * 10)
    assert expected_calibration_error(confidences, right) == pytest.approx(0.15)
    assert expected_calibration_error(np.ones(3), np.ones(3, bool)) == 0.0
