"""The arithmetic: log-sum-exp in float32 input and float64 result, and probabilities over a label set."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fastinfer.engines.scoring import log_sum_exp, normalise

rows = arrays.arrays(
    np.float32, st.tuples(st.integers(1, 4), st.integers(1, 200)), elements=st.floats(-500, 500, width=32)
)
scores = arrays.arrays(np.float64, st.integers(1, 50), elements=st.floats(-2000, 0))


@given(rows)
def test_log_sum_exp_is_that_of_float64(values):
    exact = np.logaddexp.reduce(values.astype(np.float64), axis=-1)
    result = log_sum_exp(values)
    assert result.dtype == np.float64
    assert result == pytest.approx(exact, abs=1e-5)


def test_log_sum_exp_over_a_large_vocabulary_loses_nothing():
    values = np.random.default_rng(0).normal(0, 5, (3, 200_000)).astype(np.float32)
    assert log_sum_exp(values) == pytest.approx(np.logaddexp.reduce(values.astype(np.float64), axis=-1), abs=1e-6)


def test_log_sum_exp_of_one_row_is_a_number():
    assert float(log_sum_exp(np.zeros(4, np.float32))) == pytest.approx(np.log(4))


@given(scores)
def test_normalised_scores_sum_to_one_and_keep_their_order(values):
    shares, mass = normalise(values)
    assert shares.sum() == pytest.approx(1)
    assert ((shares >= 0) & (shares <= 1)).all()
    assert (np.diff(shares[np.argsort(values)]) >= 0).all()
    assert 0 <= mass <= 1


@given(scores, st.floats(-300, 0))
def test_a_common_factor_changes_the_mass_alone(values, shift):
    assert normalise(values + shift)[0] == pytest.approx(normalise(values)[0], abs=1e-9)


def test_the_mass_is_the_sum_of_the_probabilities():
    shares, mass = normalise(np.log([0.1, 0.3]))
    assert shares == pytest.approx([0.25, 0.75])
    assert mass == pytest.approx(0.4)


def test_rounding_never_takes_the_mass_over_one():
    assert normalise(np.log([0.5, 0.5]) + 1e-12)[1] == 1.0


def test_scores_too_small_for_a_float_still_give_probabilities():
    shares, mass = normalise(np.array([-5000.0, -5000.0 + np.log(3)]))
    assert shares == pytest.approx([0.25, 0.75])
    assert mass == 0.0


def test_labels_that_are_all_impossible_are_equally_likely_with_no_mass():
    shares, mass = normalise(np.full(4, -np.inf))
    assert shares.tolist() == [0.25] * 4
    assert mass == 0.0


def test_an_impossible_label_beside_a_possible_one_has_no_probability():
    shares, mass = normalise(np.array([-np.inf, -1.0]))
    assert shares.tolist() == [0.0, 1.0]
    assert mass == pytest.approx(np.exp(-1))
